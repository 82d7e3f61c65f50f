"""--bn-from: which files are read, how bad ones are refused, and that distillation then works on the folded model."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from genie_onnx_cli.main import main
from small_bn_net import SHAPE, small_bn_net

from genie_onnx import ConfigError, DistillConfig, QuantizeConfig, ReconstructConfig, quantize
from genie_onnx.config import PlacementConfig
from genie_onnx.graph import batchnorms, fold_batchnorm, load, normalise
from genie_onnx.preparation.bn_file import with_bn_from
from genie_onnx.preparation.prepare import Prepared, prepare

KEPT = small_bn_net()
QUICK = QuantizeConfig(samples=8, distill=DistillConfig(iterations=2, batch_size=8), reconstruct=ReconstructConfig(iterations=2))


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    """The small network as a default export gives it: no BatchNorm."""
    path = tmp_path / "folded.onnx"
    onnx.save(ir.to_proto(fold_batchnorm(normalise(load(KEPT)))), path)
    return path


def state_dict() -> dict[str, torch.Tensor]:
    """Its weights under the names that torch gives them."""
    arrays = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in KEPT.graph.initializer}
    state = {"fc.weight": arrays["w3"]}
    for layer in (1, 2):
        parts = {"weight": "s", "bias": "b", "running_mean": "m", "running_var": "v"}
        state |= {f"conv{layer}.weight": arrays[f"w{layer}"]}
        state |= {f"bn{layer}.{part}": arrays[f"{letter}{layer}"] for part, letter in parts.items()}
        state[f"bn{layer}.num_batches_tracked"] = torch.tensor(100)
    return state


def save(kind: str, folder: Path) -> Path:
    """Write the file that `kind` says."""
    path = folder / f"file.{kind.split(' ', maxsplit=1)[0]}"
    match kind:
        case "onnx":
            onnx.save(KEPT, path)
        case "safetensors":
            safetensors.torch.save_file(state_dict(), path)
        case "pt":
            torch.save(state_dict(), path)
        case "pth checkpoint":
            torch.save({"epoch": 3, "state_dict": state_dict(), "optimizer": {"state": {0: torch.ones(3).half()}}}, path)
        case "bin old format":
            torch.save(state_dict(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "pt", "pth checkpoint", "bin old format"])
def test_every_kind_of_file_gives_the_statistics_of_the_folded_layers(kind: str, folded: Path, tmp_path: Path) -> None:
    prepared = with_bn_from(prepare(folded, PlacementConfig()), save(kind, tmp_path))
    assert [b.value for b in prepared.statistics] == ["b", "e"]
    assert str(prepared.coverage) == "2 of 2 convolutions"
    state = state_dict()
    for layer, found in enumerate(prepared.statistics, start=1):
        np.testing.assert_array_equal(found.mean, state[f"bn{layer}.bias"])
        np.testing.assert_allclose(found.std, state[f"bn{layer}.weight"], rtol=1e-3)


def test_nothing_is_lent_where_no_file_is_given(folded: Path) -> None:
    prepared = prepare(folded, PlacementConfig())
    assert with_bn_from(prepared, None) is prepared
    assert prepared.statistics == ()
    kept: Prepared = prepare(KEPT, PlacementConfig())
    assert [b.value for b in kept.statistics] == [b.value for b in batchnorms(kept.normalised)] == ["a", "d"]


def test_lent_statistics_join_the_models_own_in_the_order_of_the_network(tmp_path: Path) -> None:
    """The second BatchNorm is kept (its input is read from outside), the first is lent, and comes first."""
    half = normalise(load(KEPT))
    half.graph.outputs.append(next(node for node in half.graph if node.outputs[0].name == "e").inputs[0])
    prepared = with_bn_from(prepare(ir.to_proto(fold_batchnorm(half)), PlacementConfig()), save("pt", tmp_path))
    assert [b.value for b in prepared.batchnorms] == ["d"]
    assert [b.value for b in prepared.borrowed] == ["b"]
    assert [b.value for b in prepared.statistics] == ["b", "d"]
    assert prepared.coverage.missing == {}


class Dangerous:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.path, "run")


def bad_file(kind: str, folder: Path) -> Path:
    """Write a file that cannot serve."""
    path = folder / "bad.pt"
    match kind:
        case "text":
            path.write_text("no weights\n")
        case "empty":
            path.touch()
        case "truncated":
            torch.save(state_dict(), path)
            path.write_bytes(path.read_bytes()[:700])
        case "code":
            torch.save({"weights": Dangerous(folder / "touched")}, path)
        case "pickle":
            path.write_bytes(pickle.dumps({"weights": Dangerous(folder / "touched")}))
        case "a whole module":
            torch.save(torch.nn.Conv2d(3, 8, 3), path)
        case "no tensors":
            torch.save({"epoch": 7}, path)
        case "sparse":
            torch.save({"conv1.weight": torch.eye(3).to_sparse()}, path)
        case "no BatchNorm":
            torch.save({"conv1.weight": state_dict()["conv1.weight"]}, path)
        case "broken safetensors":
            path = folder / "bad.safetensors"
            path.write_bytes(b"\xff" * 64)
        case "broken onnx":
            path = folder / "bad.onnx"
            path.write_bytes(b"\xff" * 64)
        case "directory":
            path.mkdir()
        case "another training":
            torch.save({key: 1.01 * t + 0.01 for key, t in state_dict().items() if t.is_floating_point()}, path)
    return path


BAD = [
    "text",
    "empty",
    "truncated",
    "code",
    "pickle",
    "a whole module",
    "no tensors",
    "sparse",
    "no BatchNorm",
    "broken safetensors",
]


@pytest.mark.parametrize("kind", [*BAD, "broken onnx", "directory", "missing", "another training"])
def test_bad_files_get_one_line_and_run_no_code(kind: str, folded: Path, tmp_path: Path) -> None:
    path = bad_file(kind, tmp_path)
    result = call("quantize", folded, "--bn-from", path)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert path.name in lines[0]
    assert not (tmp_path / "touched").exists()


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_quantize_distil_and_inspect_take_it(folded: Path, tmp_path: Path) -> None:
    file = save("safetensors", tmp_path)
    alone, helped = (json.loads(call("inspect", folded, "--json", *more).stdout) for more in ((), ("--bn-from", file)))
    assert (alone["images"], alone["convolutions"], alone["uncovered"]) == ("refined", 2, ["Conv_a", "Conv_d"])
    assert (helped["images"], helped["convolutions"], helped["uncovered"]) == ("distilled", 2, [])
    assert helped["images_reason"] == "there are BatchNorm statistics of 2 of 2 convolutions (2 from --bn-from)"
    quick = ["--samples", 4, "--distill-iters", 2]
    assert call("distill", folded, *quick).exit_code == 2
    done = call("distill", folded, *quick, "--bn-from", file, "-o", tmp_path / "made")
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "made" / "images.npz")["images"].shape == (4, *SHAPE)
    unused = call("quantize", folded, "--dry-run", "--bn-from", file, "--data", tmp_path / "made" / "images.npz")
    assert "--bn-from have no part" in unused.stdout
    result = call("quantize", folded, *quick, "--recon-iters", 2, "--bn-from", file)
    assert result.exit_code == 0, result.output
    assert "4 distilled" in result.stdout


def test_a_run_belongs_to_its_statistics(folded: Path, tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in state_dict().items() if tensor.is_floating_point()}
    torch.save(state, tmp_path / "one.pt")
    # gamma and deviation doubled together: the same folded weights, other statistics
    state["bn1.running_var"], state["bn1.weight"] = 4 * state["bn1.running_var"], 2 * state["bn1.weight"]
    torch.save(state, tmp_path / "two.pt")
    quantize(folded, config=QUICK, bn_from=tmp_path / "one.pt", run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="what --bn-from holds was"):
        quantize(folded, config=QUICK, bn_from=tmp_path / "two.pt", run_dir=tmp_path / "run")
