"""Counter-based random numbers: a sample depends on its name alone, never on the batch that it was drawn in."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_from(*parts: object) -> int:
    """A 64-bit seed from any printable parts, stable across machines and Python versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """A generator of its own for these parts."""
    return np.random.Generator(np.random.Philox(key=seed_from(*parts)))


def uniforms(seed: int, key: str, sample: int, n: int) -> np.ndarray:
    """(n,) float64 in [0, 1): one number for each token of sample `sample` of prompt `key`.

    The first m numbers do not depend on n, so a longer limit only continues a completion.
    """
    return generator("tokens", seed, key, sample).random(n)
