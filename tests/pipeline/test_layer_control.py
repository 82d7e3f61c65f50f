"""--keep-float, --bits and --layers: from the command line to what the file stores and computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from onnx import numpy_helper
from small_bn_net import small_bn_net

import genie_onnx
from genie_onnx import ConfigError, LayerBits, PlacementConfig, QuantizeConfig, ReconstructConfig

QUICK = QuantizeConfig(samples=8, images="procedural", reconstruct=ReconstructConfig(iterations=2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The small network, its nodes named after their first outputs: d is the second convolution, f its Relu."""
    proto = small_bn_net()
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def settings(**placement: object) -> QuantizeConfig:
    """QUICK with another placement."""
    return dataclasses.replace(QUICK, placement=PlacementConfig(**placement))  # type: ignore[arg-type]


def around(file: onnx.ModelProto, name: str) -> tuple[str, str]:
    """The operators that make the data input of the node and read its output."""
    node = next(n for n in file.graph.node if n.name == name)
    makers = {out: n.op_type for n in file.graph.node for out in n.output}
    readers = [n.op_type for n in file.graph.node if node.output[0] in n.input]
    return makers.get(node.input[0], "input"), ", ".join(readers)


def test_a_kept_layer_has_no_codes_around_it(model: Path) -> None:
    result = genie_onnx.quantize(model, config=settings(keep_float=("d",)))
    assert result.report.parity["ok"]
    assert result.report.weights == {"w1": 8, "w3": 8}
    assert result.report.kept_float == {"d": "asked for with --keep-float 'd'"}
    file = onnx.load(result.output)
    assert around(file, "d") == ("Relu", "Relu"), "neither DequantizeLinear before it nor QuantizeLinear behind"
    stored = {t.name: t for t in file.graph.initializer}
    assert stored["w2"].data_type == onnx.TensorProto.FLOAT


def test_bits_are_seen_in_the_file(model: Path) -> None:
    bits = (LayerBits(pattern="d", wbits=3, abits=5), LayerBits(pattern="Gemm", wbits=2, abits=6))
    result = genie_onnx.quantize(model, config=settings(layer_bits=bits))
    assert result.report.parity["ok"]
    assert result.report.weights == {"w1": 8, "w2": 3, "w3": 2}
    file = onnx.load(result.output)
    stored = {t.name: numpy_helper.to_array(t) for t in file.graph.initializer}
    assert np.ptp(stored["w2_quantized"].reshape(16, -1).astype(int), axis=1).max() == 2**3 - 1
    assert np.ptp(stored["w3_quantized"].astype(int), axis=1).max() <= 2**2 - 1
    assert stored["c_max"] == 2**5 - 1, "what the second convolution reads"
    assert stored["h_max"] == 2**6 - 1


def test_the_command_line_and_the_file_say_the_same(model: Path, tmp_path: Path) -> None:
    layers = tmp_path / "layers.toml"
    layers.write_text('keep-float = ["GlobalAveragePool"]\n[bits]\n"d" = "3/5"\n')
    asked = ["--keep-float", "GlobalAveragePool", "--bits", "d=3/5"]
    found = [call("quantize", model, "--dry-run", *arguments) for arguments in (asked, ["--layers", layers])]
    for result in found:
        assert result.exit_code == 0, result.output
        placement = json.loads(result.stdout[result.stdout.index("{") :])["placement"]
        assert placement["keep_float"] == ["GlobalAveragePool"]
        assert placement["layer_bits"] == [{"pattern": "d", "wbits": 3, "abits": 5}]
    said = [[line for line in result.stdout.splitlines() if not line.startswith("time:")] for result in found]  # is measured
    assert said[0] == said[1]


def test_settings_survive_json() -> None:
    config = settings(keep_float=("Sigmoid",), layer_bits=(LayerBits(pattern="a=b", wbits=3, abits=5),))
    assert genie_onnx.from_json(genie_onnx.to_json(config)) == config


def test_a_run_directory_belongs_to_its_patterns(model: Path, tmp_path: Path) -> None:
    genie_onnx.quantize(model, config=QUICK, run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="--keep-float was not given and is now d"):
        genie_onnx.quantize(model, config=settings(keep_float=("d",)), run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keep = 3", "unknown entry 'keep'; there are keep-float and [bits]"),
        ('keep-float = "Sigmoid"', "keep-float is a list of patterns"),
        ("bits = 3", "[bits] is a table"),
        ('[bits]\nlayer1.conv = "8/8"', 'a name with dots needs quotes: "layer1.conv" = "8/8"'),
        ('[bits]\nd = "9/8"', "bits of 'd' must be 2..8, not 9"),
        ("[bits]\nd = 8", "bits of 'd' are W/A, of the weights and of what the layer reads, such as 8/8; not 8"),
        ("[bits", "this is not TOML"),
    ],
)
def test_a_file_that_says_nothing_is_refused(model: Path, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "layers.toml").write_text(text)
    result = call("quantize", model, "--layers", tmp_path / "layers.toml")
    assert result.exit_code == 2
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--bits", "8/8"], "'8/8' is not NODE=W/A"),
        (["--bits", "d=8"], "bits of 'd' are W/A"),
        (["--keep-float", "Sigmoit"], "--keep-float 'Sigmoit' means no node"),
        (["--keep-float", "conv"], "near: 'Conv'"),
        (["--bits", "f=4/4"], "means Relu 'f', which has no weights"),
        (
            ["--keep-float", "Conv", "--keep-float", "Gemm"],
            "nothing to quantize: all 3 layers stay float, first 'a' because: asked for with",
        ),
        (["--layers", "nowhere.toml"], "cannot be read"),
    ],
)
def test_options_that_mean_nothing_are_refused(model: Path, arguments: list[str], problem: str) -> None:
    for command in ("quantize", "inspect"):
        result = call(command, model, *arguments)
        assert result.exit_code == 2, result.output
        assert problem in result.stderr
        assert len(result.stderr.splitlines()) == 1
