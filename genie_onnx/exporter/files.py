"""Writing a model: whole or not at all, never over the model it was made from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import external_data_helper

from genie_onnx.errors import ConfigError

PROTOBUF_LIMIT = 2**31 - 1  # bytes one protobuf file may have


def save(proto: onnx.ModelProto, path: Path, inputs: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Write `proto` to `path` and return the files written.

    Above 2 GB the tensors go to `path` + ".data" (and are marked so in `proto`). Both are written beside their place
    under temporary names and renamed when complete. Raises ConfigError where one of them would replace one of `inputs`,
    OSError where the folder cannot be written.
    """
    data = path.with_name(path.name + ".data")
    large = proto.ByteSize() > PROTOBUF_LIMIT
    for source in inputs:
        for target in (path, data) if large else (path,):
            if target.exists() and source.exists() and target.samefile(source):
                raise ConfigError(f"the output {target} would overwrite the input {source}; choose another with --output")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder)
        if large:
            external_data_helper.convert_model_to_external_data(proto, location=data.name)
            onnx.save_model(proto, partial / path.name)
            os.replace(partial / data.name, data)
        else:
            (partial / path.name).write_bytes(proto.SerializeToString())
        os.replace(partial / path.name, path)
    return (path, data) if large else (path,)
