"""Named random streams from one integer seed.

Every consumer of randomness gets a generator of its own, so that drawing more in one place never shifts another.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed for the stream `name` of `seed`: the same on every machine and Python version."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of the stream `name`, e.g. ``stream(0, "distill/batch3")``, on `device`."""
    return torch.Generator(device=device).manual_seed(derive(seed, name))
