"""Detectors of ultralytics with random weights: yolo11n.yaml and the like, through `YOLO.export`.

NAME-half, NAME-dynamic, NAME-nms are options of the exporter; NAME-cls, NAME-seg, NAME-pose other networks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}  # it installs what it misses otherwise

import exporting
import torch
import torch_nets
from ultralytics import YOLO

SIZE = 96
OPTIONS = {"half": {"half": True}, "dynamic": {"dynamic": True}, "nms": {"nms": True}}


def export(name: str, file: Path) -> None:
    net, _, way = name.partition("-")
    torch.manual_seed(0)
    os.chdir(file.parent)  # it writes to where it is run
    yolo = YOLO(f"{net}.yaml" if way in OPTIONS or not way else f"{net}-{way}.yaml")
    torch_nets.settle(yolo.model, SIZE)
    written = Path(yolo.export(format="onnx", imgsz=SIZE, device="cpu", **OPTIONS.get(way, {})))
    shutil.move(written.resolve(), file)


if __name__ == "__main__":
    exporting.main(export)
