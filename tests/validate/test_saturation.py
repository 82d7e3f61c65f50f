"""Whose 8-bit weights saturate on which CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdq_net import float_net, qdq_net

from genie_onnx.validate.saturation import has_vnni, wide_weights


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n", True),
        ("processor : 0\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\nbugs : none\n", False),
        ("processor : 0\nFeatures : fp asimd\n", None),  # ARM
    ],
)
def test_vnni_is_read_from_the_flags(text: str, found: bool | None, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_vnni(tmp_path / "cpuinfo") is found
    assert has_vnni(tmp_path / "no such file") is None


def test_only_weights_beyond_7_bits_saturate() -> None:
    assert wide_weights(qdq_net(largest=64)) == ()
    assert wide_weights(qdq_net(largest=65)) == ("codes",)
    assert wide_weights(float_net()) == ()
