"""Writing a model: whole or not at all, never over the model it was made from."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import external_data_helper

from genie_onnx.errors import ConfigError
from genie_onnx.machine.atomic import move

PROTOBUF_LIMIT = 2**31 - 1  # bytes one protobuf file may have


def save(proto: onnx.ModelProto, path: Path, inputs: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Write `proto` to `path` and return the files written.

    Above 2 GB the tensors go to `path` + ".data" (and are marked so in `proto`). Both are written in a folder
    beside their place and moved when complete. Raises ConfigError where one of them would replace one of `inputs`,
    OSError where the folder cannot be written.
    """
    data = path.with_name(path.name + ".data")
    large = proto.ByteSize() > PROTOBUF_LIMIT
    for source in inputs:
        for target in (path, data) if large else (path,):
            if target.exists() and source.exists() and target.samefile(source):
                raise ConfigError(f"the output {target} would overwrite the input {source}; choose another with --output")
    folder = path.with_name(f".{path.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        if large:
            external_data_helper.convert_model_to_external_data(proto, location=data.name)
            onnx.save_model(proto, folder / path.name)
            move(folder / data.name, data)
        else:
            (folder / path.name).write_bytes(proto.SerializeToString())
        move(folder / path.name, path)
    finally:
        shutil.rmtree(folder)
    return (path, data) if large else (path,)
