"""Which images a run uses, what they are called, and what is refused before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from PIL import Image
from small_bn_net import SHAPE, small_bn_net

from genie_onnx import ConfigError, DataError, DistillConfig, QuantizeConfig, ReconstructConfig, distill, plan, quantize
from genie_onnx.config import ClosedFormConfig, PlacementConfig
from genie_onnx.graph import fold_batchnorm, load, normalise
from genie_onnx.images.choice import HELD_BACK, LEAST, Choice, choose_images, judged_on, with_images_that_pay
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.synthesis.plausible import image_count

QUICK = QuantizeConfig(samples=8, distill=DistillConfig(iterations=2, batch_size=8), reconstruct=ReconstructConfig(iterations=2))
AMPLIFY = replace(QUICK, amplify=True)
KEPT = small_bn_net()


@pytest.fixture(scope="module")
def kept() -> Prepared:
    return prepare(KEPT, PlacementConfig())


@pytest.fixture(scope="module")
def folded() -> Prepared:
    return prepare(ir.to_proto(fold_batchnorm(normalise(load(KEPT)))), PlacementConfig())


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Five images in the model's input space."""
    path = tmp_path / "few.npy"
    np.save(path, np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32))
    return path


def test_without_data_the_statistics_decide(kept: Prepared, folded: Prepared) -> None:
    choice = choose_images(kept, QUICK, ())
    assert (choice.kind, choice.images, choice.notices) == ("distilled", "distilled", ())
    assert choice.reason == "there are BatchNorm statistics of 2 of 2 convolutions (2 BatchNormalization nodes in the model)"
    choice = choose_images(folded, QUICK, ())
    assert (choice.kind, choice.images) == ("refined", "refined")
    assert "--bn-from" in choice.notices[0]
    assert choose_images(kept, replace(QUICK, images="procedural"), ()).kind == "procedural"
    assert choose_images(kept, replace(QUICK, images="refine"), ()).kind == "refined"
    with pytest.raises(ConfigError, match="--bn-from"):
        choose_images(folded, replace(QUICK, images="distill"), ())


def test_no_more_large_images_are_made_than_are_worth_it(kept: Prepared, folded: Prepared) -> None:
    """So many pixels together, but a few images at least; those of the user, and painted ones, cost next to nothing."""
    pixels = SHAPE[1] * SHAPE[2]
    config = replace(QUICK, samples=100, distill=replace(QUICK.distill, most_pixels=40 * pixels + 1))
    asked = {"distilled": 40, "refined": 40, "procedural": 100, "data": 100, "amplified": 100}
    found = {kind: with_images_that_pay(config, Choice(kind, kind, ""), SHAPE).samples for kind in asked}
    assert found == asked
    distilled = choose_images(kept, config, ())
    few = replace(config, distill=replace(config.distill, most_pixels=pixels))
    assert with_images_that_pay(few, distilled, SHAPE).samples == LEAST
    assert with_images_that_pay(replace(few, samples=3), distilled, SHAPE).samples == 3
    assert with_images_that_pay(QUICK, distilled, SHAPE) == QUICK


def test_of_pictures_of_a_camera_few_are_painted() -> None:
    """At 3840 x 2160 a hundred of them are 10 GB and a quarter of an hour; at usual sizes there are as many as ever."""
    config = replace(QUICK, samples=256, distill=replace(QUICK.distill, most_pixels=64 * 224 * 224))
    painted = Choice("procedural", "procedural", "")
    counts = {size: with_images_that_pay(config, painted, (3, *size)).samples for size in ((640, 640), (2160, 3840))}
    assert counts == {(640, 640): 256, (2160, 3840): LEAST}
    assert {judged_on((3, 640, 640)), judged_on((3, 1024, 1024))} == {HELD_BACK}
    assert judged_on((3, 2160, 3840)) == image_count((3, 2160, 3840)) == 8
    assert (image_count((3, 32, 32)), image_count((3, 224, 224)), image_count((3, 1024, 1024))) == (1024, 64, 64)


def test_images_stay_as_painted_where_distilling_has_no_steps(kept: Prepared, folded: Prepared) -> None:
    off = replace(QUICK, distill=replace(QUICK.distill, iterations=0))
    assert [choose_images(p, off, ()).kind for p in (kept, folded)] == ["procedural", "procedural"]
    assert "brought to" in choose_images(kept, off, ()).reason
    assert "plausible" in choose_images(folded, off, ()).reason
    for closed in (None, ClosedFormConfig(match=False)):
        nothing = replace(off, closed_form=closed)
        assert choose_images(kept, nothing, ()).reason == "distilling has 0 steps", "nothing brings them anywhere"


def test_distilling_that_is_asked_for_has_steps(kept: Prepared) -> None:
    with pytest.raises(ConfigError, match="--distill-iters 1"):
        choose_images(kept, replace(QUICK, images="distill", distill=replace(QUICK.distill, iterations=0)), ())


def test_statistics_of_less_than_half_of_the_convolutions_are_called_few(few: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] y) {
        k = Constant <value = float[3] {0.5, 2.0, 1.0}> ()
        a = Conv (x, w)  n = BatchNormalization (a, k, k, k, k)  b = Conv (n, w)  y = Conv (b, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w"))
    prepared = prepare(model, PlacementConfig())
    choice = choose_images(prepared, QUICK, ())
    assert choice.kind == "distilled"
    assert choice.notices[0].startswith("Statistics are known of only 1 of 3 convolutions")
    given = choose_images(prepared, AMPLIFY, [few])
    assert "1 of 3 convolutions" in given.reason
    assert "those of the other 2" in given.reason
    assert given.notices == ()


def sums(layers: int, norms: int) -> onnx.ModelProto:
    """A classifier of `layers` convolutions without BatchNorm, and `norms` of them on sums of what two of these compute."""
    nodes, last = [], "x"
    for k in range(0, layers, 2):
        nodes.append(f"a{k} = Conv ({last}, w)  b{k} = Conv ({last}, w)  s{k} = Add (a{k}, b{k})")
        if k // 2 < norms:
            nodes.append(f"n{k} = BatchNormalization (s{k}, k, k, k, k)")
        last = f"{'n' if k // 2 < norms else 's'}{k}"
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 3] y) {{
        k = Constant <value = float[3] {{0.5, 2.0, 1.0}}> ()  {" ".join(nodes)}
        p = GlobalAveragePool ({last})  y = Flatten (p) }}"""
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return model


def test_images_are_refined_where_statistics_tell_of_few_values() -> None:
    """Values count: what sums compute as well. Asked to distil, it does."""
    few = prepare(sums(12, 1), PlacementConfig())
    choice = choose_images(few, QUICK, ())
    assert (choice.kind, choice.images) == ("refined", "refined")
    assert "0 of 12 convolutions (1 BatchNormalization nodes in the model), which is few" in choice.reason
    assert any("optimize=False" in notice for notice in choice.notices)
    assert choose_images(few, replace(QUICK, images="distill"), ()).kind == "distilled"
    off = replace(QUICK, distill=replace(QUICK.distill, iterations=0))
    assert choose_images(few, off, ()).kind == "procedural"
    assert choose_images(prepare(sums(12, 2), PlacementConfig()), QUICK, ()).kind == "refined"
    assert choose_images(prepare(sums(12, 3), PlacementConfig()), QUICK, ()).kind == "distilled"


def test_amplify_only_where_images_are_fewer_than_wanted(kept: Prepared, folded: Prepared, few: Path) -> None:
    for prepared in (kept, folded):
        choice = choose_images(prepared, AMPLIFY, [few])
        assert (choice.kind, choice.images) == ("amplified", "data+distilled")
        assert choice.reason.startswith("5 images were given; 3 are distilled from")
        assert choose_images(prepared, replace(QUICK, amplify=False), [few]).kind == "data"
    enough = choose_images(folded, replace(AMPLIFY, samples=5), [few])
    assert enough.kind == "data"
    assert "nothing to do" in enough.notices[0]
    assert choose_images(folded, AMPLIFY, [few, few]).kind == "data"  # ten in all
    with pytest.raises(ConfigError, match="--amplify"):
        choose_images(folded, AMPLIFY, ())


def test_very_few_images_are_amplified_unless_told_otherwise(folded: Prepared, tmp_path: Path) -> None:
    """Up to 16 of the user's own; images that were made are left as they are, and so are networks of other layers."""
    many = replace(QUICK, samples=100)
    for count, kind in ((1, "amplified"), (16, "amplified"), (17, "data")):
        np.save(tmp_path / "x.npy", np.zeros((count, *SHAPE), np.float32))
        assert choose_images(folded, many, [tmp_path / "x.npy"]).kind == kind
    np.savez(tmp_path / "made.npz", images=np.zeros((4, *SHAPE), np.float32), kind="procedural")
    assert choose_images(folded, many, [tmp_path / "made.npz"]).kind == "data"
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 2, 2), np.float32))
    assert choose_images(dense_net(2), many, [tmp_path / "x.npy"]).kind == "data"
    assert choose_images(dense_net(1), many, [tmp_path / "x.npy"]).kind == "amplified"


def test_amplify_needs_something_to_distil_from(few: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 16, 16] x) => (float[N, 2] y) { f = Flatten (x)  y = Gemm (f, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((768, 2), np.float32), "w"))
    with pytest.raises(ConfigError, match="needs convolutions"):
        choose_images(prepare(model, PlacementConfig()), AMPLIFY, [few])


def test_images_are_called_what_they_are(tmp_path: Path, few: Path) -> None:
    """Made by `distill` or by a run, and handed in as data: the report and the run directory say so."""
    model = tmp_path / "net.onnx"
    onnx.save(KEPT, model)
    made = distill(model, tmp_path / "made", config=QUICK).images
    painted = quantize(model, tmp_path / "p.onnx", config=replace(QUICK, images="procedural"), run_dir=tmp_path / "p")
    refined = distill(model, tmp_path / "refined", config=replace(QUICK, images="refine")).images
    cases = {
        "distilled": [made],
        "procedural": [tmp_path / "p" / "images.npz"],
        "refined": [refined],
        "data+distilled": [few, made],
        "data": [few],
    }
    for expected, data in cases.items():
        choice = plan(model, config=replace(QUICK, amplify=False), data=data).choice
        assert (choice.kind, choice.images) == ("data", expected)
    assert painted.report.images == "procedural"
    again = quantize(model, tmp_path / "d.onnx", config=QUICK, data=[made], run_dir=tmp_path / "d")
    assert again.report.images == "distilled"
    with np.load(tmp_path / "d" / "images.npz") as arrays:
        assert str(arrays["kind"]) == "distilled"
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "d.onnx").metadata_props}
    assert metadata["genie_onnx.images"] == "distilled"


@pytest.mark.parametrize("note", [np.array("holiday"), np.array(["distilled", None], dtype=object), np.zeros(3)], ids=str)
def test_a_kind_of_somebody_elses_means_nothing(note: np.ndarray, folded: Prepared, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((2, *SHAPE), np.float32), kind=note)
    assert choose_images(folded, replace(QUICK, amplify=False), [tmp_path / "x.npz"]).images == "data"


def dense_net(dense: int) -> Prepared:
    """One convolution and `dense` Gemms."""
    gemms = "".join(f"y{i + 1} = Gemm (y{i}, w{i}) " for i in range(dense))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 2, 2] x) => (float[N, 12] y{dense}) {{ c = Conv (x, k)  y0 = Flatten (c)  {gemms} }}"""
    model = onnx.parser.parse_model(text)
    arrays = {f"w{i}": np.eye(12, dtype=np.float32) for i in range(dense)} | {"k": np.ones((3, 3, 1, 1), np.float32)}
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return prepare(model, PlacementConfig())


def test_only_networks_of_convolutions_have_their_images_refined(kept: Prepared) -> None:
    """Their statistics are what keeps refined images plausible; asked for, it is done with any convolution at all."""
    few_dense, many_dense = dense_net(1), dense_net(2)
    assert choose_images(few_dense, QUICK, ()).kind == "refined"
    choice = choose_images(many_dense, QUICK, ())
    assert choice.kind == "procedural"
    assert "no convolutions" in choice.reason
    assert choose_images(many_dense, replace(QUICK, images="refine"), ()).kind == "refined"


def test_only_classifiers_have_their_images_refined() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] map) { map = Conv (x, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w"))
    detector = prepare(model, PlacementConfig())
    choice = choose_images(detector, QUICK, ())
    assert choice.kind == "procedural"
    assert "no classifier" in choice.reason
    assert choose_images(detector, replace(QUICK, images="refine"), ()).kind == "refined"


def test_features_that_are_no_pictures_are_named(folded: Prepared) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 5, 1, 16] x) => (float[N, 3, 1, 16] y) { y = Conv (x, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 5, 1, 1), np.float32), "w"))
    notices = choose_images(prepare(model, PlacementConfig()), QUICK, ()).notices
    assert any("[5, 1, 16]" in notice and "smooth noise" in notice for notice in notices)
    assert not any("smooth noise" in notice for notice in choose_images(folded, QUICK, ()).notices)


def test_plan_looks_at_the_data(tmp_path: Path, few: Path) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((4, 3, 9, 9), np.float32))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and so on")
    for name in ("wrong.npy", "text.png", "broken.npz", "missing.npz"):
        with pytest.raises(DataError, match=name):
            plan(KEPT, tmp_path / "out.onnx", config=QUICK, data=[few, tmp_path / name])
    with pytest.raises(DataError) as refused:
        plan(KEPT, tmp_path / "out.onnx", config=QUICK, data=[tmp_path / "wrong.npy", tmp_path / "missing.npz"])
    assert len(refused.value.problems) == 2


def test_pixels_without_preprocessing_get_a_notice(folded: Prepared, tmp_path: Path, few: Path) -> None:
    """In whatever file they are; floating-point arrays are the model's input already."""
    pixels = np.zeros((4, 16, 16, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    np.savez(tmp_path / "pixels.npz", images=pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "pixels.png")
    known = replace(QUICK, mean=(0.5,) * 3, std=(0.5,) * 3)
    for name in ("pixels.npy", "pixels.npz", "pixels.png"):
        assert any("pixel / 255" in notice for notice in choose_images(folded, QUICK, [few, tmp_path / name]).notices)
        assert choose_images(folded, known, [tmp_path / name]).notices == ()
    assert choose_images(folded, QUICK, [few]).notices == ()
