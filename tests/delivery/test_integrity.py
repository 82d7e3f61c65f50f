"""`verify` of a file that others have touched: what was changed is said in some lines, and what could not be looked at too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from onnx import TensorProto, numpy_helper
from qdq_net import qdq_net
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import DistillConfig, ModelError, QuantizeConfig, ReconstructConfig, RuntimeFinding
from genie_onnx.validate.runtimes import doubt

QUICK = QuantizeConfig(
    samples=8, images="procedural", distill=DistillConfig(iterations=1), reconstruct=ReconstructConfig(iterations=0)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """A finished run: file, encodings and run directory."""
    folder = tmp_path_factory.mktemp("run")
    onnx.save(small_bn_net(), folder / "net.onnx")
    return genie_onnx.quantize(folder / "net.onnx", config=QUICK)


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments), "--with", "onnxruntime", "--samples", "2", "-q"])


def rewritten(run: genie_onnx.Result, path: Path, edit: Callable[[TensorProto], np.ndarray | None]) -> Path:
    """The run's file with other numbers in each tensor that `edit` returns some for."""
    proto = onnx.load(run.output)
    for tensor in proto.graph.initializer:
        numbers = edit(tensor)
        if numbers is not None:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(numbers), tensor.name))
    onnx.save(proto, path)
    return path


def halved(tensor: TensorProto) -> np.ndarray | None:
    """What a converter to float16 makes of it."""
    return numpy_helper.to_array(tensor).astype(np.float16) if tensor.data_type == TensorProto.FLOAT else None


def doubled(tensor: TensorProto) -> np.ndarray | None:
    return 2 * numpy_helper.to_array(tensor) if tensor.name == "w2_scale" else None


def test_a_file_as_it_was_written(run: genie_onnx.Result) -> None:
    found = genie_onnx.verify(run.output, runtimes=["onnxruntime"], samples=2)
    assert found.ok
    assert found.changes == ()
    assert found.notices == ()


def test_edited_scales_are_said_and_fail(run: genie_onnx.Result, tmp_path: Path) -> None:
    result = verify(rewritten(run, tmp_path / "edited.onnx", doubled))
    assert result.exit_code == 1
    assert "changed: 'w2', DequantizeLinear 'w2_DequantizeLinear': another scale\n" in result.stdout
    assert "onnxruntime" in result.stdout
    assert " ok " in result.stdout  # the file agrees with itself
    assert result.stderr == "error: the file is not as it was written (1 scales or codes): take it from its run again\n"


def test_a_file_in_float16_is_said_in_few_lines(run: genie_onnx.Result, tmp_path: Path) -> None:
    converted = rewritten(run, tmp_path / "half.onnx", halved)
    result = verify(converted)  # its opset has no DequantizeLinear with such scales
    assert result.exit_code == 1
    assert "cannot load the model" in result.stderr
    assert "are half precision: the file was converted to float16 afterwards; 'image_quantized'" in result.stderr
    raised = onnx.version_converter.convert_version(onnx.load(run.output), 21)
    onnx.save(raised, tmp_path / "raised.onnx")
    assert verify(tmp_path / "raised.onnx").exit_code == 0
    again = dataclasses.replace(run, output=tmp_path / "raised.onnx")
    floats = rewritten(again, tmp_path / "many.onnx", lambda t: 2 * numpy_helper.to_array(t) if t.data_type == 1 else None)
    result = verify(floats)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("changed: ")]
    assert len(lines) == 6
    assert lines[-1].endswith(" more (all of them: --json)")
    everything = json.loads(verify(floats, "--json").stdout)
    assert len(everything["changes"]) == 5 + int(lines[-1].split()[1])
    assert everything["ok"] is False


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: t["weights"]["w2"].update(scale=[0.5] * len(t["weights"]["w2"]["scale"])), "0.5 in the encodings"),
        (lambda t: t["weights"]["w2"].update(scale=0.5), "1 in the encodings"),
        (lambda t: t["values"]["image"]["stored"].update(zero_point=7), ", 7 in the encodings"),
        (lambda t: t["weights"].update(w2=None), "its entry in the encodings is damaged"),
    ],
)
def test_encodings_beside_the_file(run: genie_onnx.Result, edit: Callable[[Any], None], said: str, tmp_path: Path) -> None:
    shutil.copy(run.output, tmp_path / "net.quant.onnx")
    table = json.loads(run.output.with_suffix(".encodings.json").read_text())
    edit(table)
    (tmp_path / "net.quant.encodings.json").write_text(json.dumps(table))
    (change,) = genie_onnx.verify(tmp_path / "net.quant.onnx", runtimes=["onnxruntime"], samples=1).changes
    assert said in change
    assert "Linear '" in change


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "another", "weights": {}, "values": {}}', "[" * 100_000])
def test_encodings_that_cannot_be_read_are_a_note(run: genie_onnx.Result, text: str, tmp_path: Path) -> None:
    shutil.copy(run.output, tmp_path / "net.quant.onnx")
    (tmp_path / "net.quant.encodings.json").write_text(text)
    found = genie_onnx.verify(tmp_path / "net.quant.onnx", runtimes=["onnxruntime"], samples=1)
    assert found.ok
    (notice,) = found.notices
    assert notice.startswith("net.quant.encodings.json cannot be read as encodings")


def without(run: genie_onnx.Result, path: Path, *keys: str) -> Path:
    """The run's file without some of its metadata; those of `keys` that are "" take all."""
    proto = onnx.load(run.output)
    kept = [entry for entry in proto.metadata_props if keys and entry.key not in keys]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    onnx.save(proto, path)
    return path


def test_files_of_earlier_versions_are_unchecked(run: genie_onnx.Result, tmp_path: Path) -> None:
    older = without(run, tmp_path / "older.onnx", "genie_onnx.checksums")
    result = verify(older)
    assert result.exit_code == 0
    assert "note: scales and codes of this file are unchecked: its metadata have no checksums" in result.stdout
    shutil.copy(run.output.with_suffix(".encodings.json"), tmp_path / "older.encodings.json")
    assert "note: codes of this file are unchecked" in verify(older).stdout
    shutil.copy(run.output.with_suffix(".encodings.json"), tmp_path / "edited.encodings.json")
    again = dataclasses.replace(run, output=older)
    assert "changed: 'w2', DequantizeLinear" in verify(rewritten(again, tmp_path / "edited.onnx", doubled)).stdout


def test_files_of_other_tools_are_unchecked(run: genie_onnx.Result, tmp_path: Path) -> None:
    bare = without(run, tmp_path / "bare.onnx")
    onnx.save(qdq_net(), tmp_path / "other.onnx")
    for path in (bare, tmp_path / "other.onnx"):
        found = genie_onnx.verify(path, runtimes=["onnxruntime"], samples=1)
        assert found.ok
        assert found.notices[0].startswith("scales and codes of this file are unchecked: genie-onnx did not write it")


def test_files_in_onnxruntimes_own_format_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.ort"
    path.write_bytes(b"\x20\x00\x00\x00ORTM" + bytes(64))
    result = verify(path)
    assert result.exit_code == 2
    assert "onnxruntime's own format (.ort), not ONNX. Give the .onnx file that it was made of" in result.stderr
    assert result.stderr.count("\n") == 1
    with pytest.raises(ModelError, match="own format"):
        genie_onnx.inspect(path)


def finding(**fields: Any) -> RuntimeFinding:
    return RuntimeFinding(**{"runtime": "onnxruntime", "version": "1.31.1", "problem": None, **fields})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (finding(integer_layers=3, float_layers=4, milliseconds=1.0, float_milliseconds=2.0), None),
        (finding(integer_layers=3, float_layers=0, milliseconds=1.0, float_milliseconds=0.9), None),  # a busy machine
        (finding(integer_layers=0, float_layers=0), None),
        (finding(), None),
        (finding(integer_layers=0, float_layers=4), "none of 4 convolutions and matrix products computes in integers"),
        (
            finding(integer_layers=3, float_layers=4, milliseconds=2.0, float_milliseconds=1.0),
            "the file is slower than the float",
        ),
        (
            finding(integer_layers=0, float_layers=4, milliseconds=2.0, float_milliseconds=1.0),
            "in integers, and the file is slower",
        ),
        (finding(integer_layers=0, float_layers=4, problem="it does not load"), None),
    ],
)
def test_doubts(found: RuntimeFinding, said: str | None) -> None:
    doubts = doubt(found, rounded=True)
    assert (doubts is None) == (said is None)
    if said is not None and doubts is not None:
        assert said in doubts
        assert doubts.startswith("onnxruntime 1.31.1: ")


def test_floats_are_no_doubt_where_nothing_is_rounded() -> None:
    assert doubt(finding(integer_layers=0, float_layers=4), rounded=False) is None
    assert doubt(finding(version=None, integer_layers=0, float_layers=4), rounded=True) == (
        "onnxruntime: none of 4 convolutions and matrix products computes in integers"
    )
