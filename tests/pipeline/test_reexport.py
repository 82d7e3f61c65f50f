"""A finished run whose channels are equalised is exported with the same factors, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from equalised_nets import MOBILE, RESIDUAL, config, images, network

import genie_onnx
from genie_onnx import QuantizeConfig, RunError
from genie_onnx.grids.equalisation import unpacked
from genie_onnx.targets import TARGETS


def finished(folder: Path, text: str, settings: QuantizeConfig | None = None) -> genie_onnx.Result:
    """A run in `folder`."""
    onnx.save(network(text), folder / "net.onnx")
    np.save(folder / "images.npy", images())
    return genie_onnx.quantize(folder / "net.onnx", folder / "p.onnx", config=settings or config(), data=folder / "images.npy")


@pytest.fixture(scope="module", params=[MOBILE, RESIDUAL], ids=["mobile", "residual"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> genie_onnx.Result:
    """A finished run of each network."""
    return finished(tmp_path_factory.mktemp("run"), request.param)


def tables(path: Path) -> dict[str, object]:
    """The encodings beside a file, without how they are stored."""
    found = json.loads(path.with_name(f"{path.stem}.encodings.json").read_text())
    return {
        kind: {name: {key: number for key, number in entry.items() if key != "stored"} for name, entry in found[kind].items()}
        for kind in ("weights", "values")
    }


def props(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("target", ["encodings", "int4", "onnxruntime", "portable"])
def test_another_form_has_the_same_codes_and_computes_them(run: genie_onnx.Result, target: str, tmp_path: Path) -> None:
    factors = json.loads((run.run_dir / "equalisation.json").read_text())
    assert len(factors) >= 3
    assert max(max(own) / min(own) for own in factors.values()) > 2
    again = genie_onnx.export(run.run_dir, TARGETS[target], tmp_path / "again.onnx")
    assert again.report.parity["ok"]
    assert tables(again.output) == tables(run.output)
    if target != "encodings":  # values are float there
        outputs = [result.report.comparison["outputs"][0]["sqnr_db"] for result in (run, again)]
        assert outputs[0] == pytest.approx(outputs[1], abs=0.01)
    assert props(again.output)["genie_onnx.equalisation"] == props(run.output)["genie_onnx.equalisation"]
    if target == "portable":
        assert again.output.read_bytes() == run.output.read_bytes()


def test_factors_in_the_file_are_those_of_the_run(run: genie_onnx.Result) -> None:
    kept = json.loads((run.run_dir / "equalisation.json").read_text())
    inside = unpacked(props(run.output)["genie_onnx.equalisation"]).factors
    assert inside.keys() == kept.keys()
    for value, own in inside.items():
        np.testing.assert_array_equal(own, np.array(kept[value], np.float32))


def test_other_numbers_are_made_again_when_asked(run: genie_onnx.Result, tmp_path: Path) -> None:
    again = genie_onnx.export(run.run_dir, TARGETS["tensorrt"], tmp_path / "again.onnx", reoptimize=True)
    assert again.report.parity["ok"]
    assert (again.run_dir / "equalisation.json").is_file()


@pytest.mark.parametrize("damage", ["{", '{"a": [1, "x"]}', '{"a": [0, 1]}', '{"stranger": [2.0]}', "scores", None])
def test_a_damaged_table_of_factors_is_said(run: genie_onnx.Result, damage: str | None, tmp_path: Path) -> None:
    """Codes of scaled channels are of no use without."""
    shutil.copytree(run.run_dir, tmp_path / "run.genie")
    table = tmp_path / "run.genie" / "equalisation.json"
    if damage is None:
        table.unlink()
    else:
        table.write_text('{"scores": [2, 2, 2, 2, 2]}' if damage == "scores" else damage)
    with pytest.raises(RunError, match="equalisation"):
        genie_onnx.export(tmp_path / "run.genie", TARGETS["int4"], tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_a_run_without_equalisation_needs_no_table(tmp_path: Path) -> None:
    result = finished(tmp_path, RESIDUAL, config(closed_form=None))
    assert not (result.run_dir / "equalisation.json").exists()
    assert genie_onnx.export(result.run_dir, TARGETS["int4"], tmp_path / "again.onnx").report.parity["ok"]
    assert "genie_onnx.equalisation" not in props(result.output)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_default_place_is_beside_the_quantised_file(tmp_path: Path) -> None:
    """Never in the folder of the float model; and where file and run directory are now, not where they were."""
    models, runs, moved = (tmp_path / name for name in ("models", "runs", "moved"))
    models.mkdir()
    runs.mkdir()
    onnx.save(network(RESIDUAL), models / "net.onnx")
    np.save(tmp_path / "images.npy", images())
    settings = config(closed_form=None)
    result = genie_onnx.quantize(models / "net.onnx", runs / "w4.quant.onnx", config=settings, data=tmp_path / "images.npy")
    shutil.move(result.run_dir, runs / "elsewhere")
    for target in ("int4", "iree"):
        again = genie_onnx.export(runs / "elsewhere", TARGETS[target])
        assert again.output == runs / f"w4.{target}.onnx"
        assert {f"w4.{target}.{kind}" for kind in ("onnx", "report.json", "encodings.json")} <= names(runs)
    assert names(models) == {"net.onnx"}

    (tmp_path / "deep").mkdir()
    shutil.move(runs / "elsewhere", tmp_path / "deep" / "run.genie")  # away from the file, which stays
    assert genie_onnx.export(tmp_path / "deep" / "run.genie", TARGETS["tvm"]).output == runs / "w4.tvm.onnx"

    moved.mkdir()
    shutil.copy(result.output, moved)  # both together; the first file is still there
    shutil.move(tmp_path / "deep" / "run.genie", moved / "run.genie")
    assert genie_onnx.export(moved / "run.genie", TARGETS["tvm"]).output == moved / "w4.tvm.onnx"
    (moved / "w4.quant.onnx").unlink()
    result.output.unlink()
    assert genie_onnx.export(moved / "run.genie", TARGETS["int4"]).output == moved / "w4.int4.onnx"
    assert names(models) == {"net.onnx"}
