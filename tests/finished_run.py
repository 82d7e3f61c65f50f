"""What is known of a finished run of three blocks, made by hand: a, then b and c side by side, then d."""

from __future__ import annotations

from typing import Any

from genie_onnx.report.history import Curve
from genie_onnx.report.page import Contents

EVIL = "</script><img src=x onerror=alert(1)><!--\"'{{7*7}}"


def contents(name: str = "/layer1/layer1.0/conv1/Conv", **changes: Any) -> Contents:
    """A run whose first block, its weight and the model have this `name`; with fields changed."""
    names = (name, "b/Conv", "c/Conv", "d/Gemm")
    reads = {name: "image", "b/Conv": "va", "c/Conv": "va", "d/Gemm": "vb"}
    found = [block(name, 12.5, share=0.75), block("d/Gemm", 31.0, share=0.25), block("b/Conv", 45.0), block("c/Conv", 22.0)]
    fields: dict[str, Any] = {
        "model": f"{name}.onnx",
        "output": "net.quant.onnx",
        "run_dir": "net.quant.genie",
        "command": f"genie-onnx quantize '{name}.onnx'",
        "report": report(names, reads),
        "machines": [{"device": "cpu x86_64", "precision": "fp32", "threads": "2", "processes": "1"}],
        "pictures": ["data:image/webp;base64,UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="],
        "curves": [
            Curve("images", 0, "", ((1, 40.0), (50, 4.0), (100, 2.0))),
            Curve("learn", 0, name, ((1, 0.5), (200, 0.25))),
        ],
        "comparison": {
            "samples": 64,
            "effect_samples": 32,
            "images": "procedural",
            "outputs": [{"name": "scores", "sqnr_db": 17.5, "cosine": 0.99, "agreement": 0.875}],
            "values": [value("image", "", 12.0), value("va", name, 30.0), value("vb", "b/Conv", 9.0)],
            "weights": [weight(f"{block}.w", block, db) for block, db in zip(names, (15.0, 25.0, 35.0, 8.0), strict=True)],
            "blocks": found,
            "diagnosis": [{"block": name, "text": f"Block {name} is the worst.", "command": f"genie-onnx --bits '{name}=8/8'"}],
            "notices": [],
        },
        "blocks": [
            structure(name, "core", ["image"], ["va"]),
            structure("b/Conv", "chain", ["va"], ["vb"]),
            structure("c/Conv", "chain", ["va"], ["vc"]),
            structure("d/Gemm", "chain", ["vb", "vc"], ["scores"]),
        ],
        "steps": {f"{block}.w": (0.01, 0.02, 0.03) for block in names},
        "bits": None,
        "missing": (),
    }
    return Contents(**{**fields, **changes})


def report(names: tuple[str, ...], reads: dict[str, str]) -> dict[str, Any]:
    """The report of such a run, as JSON values."""
    return {
        "settings": {
            "placement": {"wbits": 4, "abits": 4},
            "target": {"name": "portable", "in_onnxruntime": True},
            "seed": 0,
            "mean": None,
        },
        "images": "distilled",
        "images_reason": f"statistics of {names[0]}",
        "notices": [f"{names[0]} has 8 bits"],
        "samples": 128,
        "device": "cpu",
        "blocks": [{"block": block, "before": 0.1 * k, "after": 0.2} for k, block in enumerate(names)],
        "sizes": {"float_file": 240000, "float_gzip": None, "file": 96000, "file_gzip": None, "packed": 30000},
        "weights": {f"{block}.w": 4 for block in names},
        "activations": dict.fromkeys(reads.values(), 4),
        "kept_float": {f"{names[0]}/gate": "it gates"},
        "parity": {
            "ok": True,
            "weights": 4,
            "values": [{"name": "va"}],
            "problems": [],
            "whole_flip_rate": 0.14,
            "kernels": {"layers": 4, "float_layers": {"b/Conv": "it is a last layer", "c/Conv": "it is a last layer"}},
        },
        "comparison": {"samples": 64, "outputs": [{"name": "scores", "sqnr_db": 17.5, "cosine": 0.99, "agreement": 0.875}]},
        "held_back": "procedural",
        "seconds": 69.4,
        "versions": {"python": "3.11", "genie-onnx": "0.1.0"},
    }


def structure(name: str, kind: str, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    """A block of the network."""
    return {"block": name, "kind": kind, "nodes": [name], "inputs": inputs, "outputs": outputs, "weights": [f"{name}.w"]}


def block(name: str, sqnr_db: float, share: float | None = None) -> dict[str, Any]:
    """What was found of a block."""
    effect = None if share is None else {"sqnr_db": 20.0, "agreement": 0.9}
    return {
        "block": name,
        "nodes": [name],
        "weights": [f"{name}.w"],
        "values": ["va"],
        "wbits": 4,
        "abits": 4,
        "sqnr_db": sqnr_db,
        "cosine": 0.99,
        "alone": effect,
        "all_but": effect,
        "share": share,
    }


def value(name: str, maker: str, sqnr_db: float) -> dict[str, Any]:
    """What was found of a rounded value."""
    grid = {
        "levels": 16,
        "used": 12,
        "low": 0.0,
        "high": 4.25,
        "grid_low": 0.0,
        "grid_high": 3.75,
        "scale": 0.25,
        "zero_point": 0,
    }
    rest = {"block": maker, "readers": [], "bits": 4, "rounding_db": 20.0, "cosine": 0.98, "saturated": 0.015}
    return {"value": name, "sqnr_db": sqnr_db, **grid, **rest, "histogram": [64 - 4 * code for code in range(16)]}


def weight(name: str, owner: str, sqnr_db: float) -> dict[str, Any]:
    """What was found of a weight."""
    grid = {"levels": 16, "used": 16, "used_median": 11.5, "low": -0.5, "high": 0.5, "grid_low": -0.48, "grid_high": 0.42}
    rest = {"nodes": [owner], "block": owner, "operator": "Conv", "shape": [8, 3, 3, 3], "bits": 4, "cosine": 0.99}
    return {"weight": name, "sqnr_db": sqnr_db, **grid, **rest, "histogram": [1 + code % 5 for code in range(16)]}
