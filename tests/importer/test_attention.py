"""Attention: equal to onnxruntime with heads as an axis and side by side, shared keys, masks; the rest is refused."""

from __future__ import annotations

import pytest
from importer.against_onnxruntime import cases, check, network, parse

from genie_onnx.errors import ModelError

QKV = "(float[N,2,5,4] q, float[N,2,7,4] k, float[N,2,7,3] v) => (float y)"


@cases(
    {
        "heads": f"{QKV} {{ y = Attention(q, k, v) }}",
        "scale": f"{QKV} {{ y = Attention<scale=0.3>(q, k, v) }}",
        "mask": f"{QKV} <float[5,7] mask> {{ y = Attention(q, k, v, mask) }}",
        "shared": """(float[N,4,5,4] q, float[N,2,7,4] k, float[N,2,7,3] v) => (float y) { y = Attention(q, k, v) }""",
        "side_by_side": """(float[N,5,8] q, float[N,7,8] k, float[N,7,6] v) => (float y)
            { y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) }""",
    },
    opsets=(23,),
)
def test_attention(text: str, opset: int) -> None:
    check(text, opset)


@pytest.mark.parametrize("attribute", ["is_causal=1", "softcap=2.0"])
def test_refused(attribute: str) -> None:
    with pytest.raises(ModelError, match=r"Attention node .*is_causal or softcap is set"):
        network(parse(f"{QKV} {{ y = Attention<{attribute}>(q, k, v) }}", 23))
