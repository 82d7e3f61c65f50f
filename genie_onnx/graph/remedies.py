"""What to tell the user of an operator that is not supported: why, and what to do next."""

from __future__ import annotations

from genie_onnx.graph.ops import CONTROL_FLOW_OPS

_KINDS = {
    frozenset({"LSTM", "GRU", "RNN"}): (
        "recurrent layers are not supported, networks of convolutions are. Export the convolutional part alone."
    ),
    frozenset({
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct",
        "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence",
    }): (
        "lists of tensors are not supported. Export with fixed shapes, and split by sizes that are written in the model "
        "(x.split(4) or slices), so that tensors are left."
    ),
    frozenset({"NonMaxSuppression", "RoiAlign", "MaxRoiPool"}): (
        "selecting boxes is not supported. Export the model without post-processing and run that on its outputs."
    ),
    frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}): (
        "random numbers are not supported. Export in inference mode (model.eval()), or make them an input."
    ),
    frozenset({"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"}): (
        "text is not supported. Export the part behind it alone."
    ),
    frozenset({"BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "ImageDecoder", "MelWeightMatrix", "STFT"}): (
        "reading of raw data is not supported. Export the network alone and run this before it."
    ),
}  # fmt: skip


def remedy(domain: str, op_type: str) -> str:
    """Return the end of the sentence "`op_type` 'name': ..."."""
    if domain.startswith("com.microsoft"):
        return (
            f"the operator is onnxruntime's own ('{domain}'), written by its optimiser; standard ONNX operators are supported. "
            "Give the model that was optimised, or optimise with basic optimisations only."
        )
    if domain.startswith("org.pytorch"):
        return (
            f"the exporter knew no ONNX for this and wrote torch's operator ('{domain}'). Export with a newer opset_version, "
            "or without that function."
        )
    if domain:
        return (
            f"the operator is of the domain '{domain}'; standard ONNX operators are supported. "
            "Export without runtime-specific operators."
        )
    if op_type in CONTROL_FLOW_OPS:
        return "branches and loops are not supported. Export without data-dependent code, with fixed shapes if need be."
    known = next((text for kinds, text in _KINDS.items() if op_type in kinds), None)
    return known or "this operator is not supported. Export without it, or cut the model before it (onnx.utils.extract_model)."
