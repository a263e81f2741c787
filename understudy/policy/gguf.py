"""GGUF files: their fields and tensors, read with numpy alone.

Only what the known models here need: version 3, little-endian, tensors of type F32, F16, Q8_0 and Q4_1. Format: ggml's
docs/gguf.md; block layouts: ggml-common.h.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError

BLOCK = 32  # weights per quantisation block
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_F32, _F16, _Q4_1, _Q8_0 = 0, 1, 3, 8
NAMES = {_F32: "F32", _F16: "F16", _Q4_1: "Q4_1", _Q8_0: "Q8_0"}
_BYTES = {_F32: (1, 4), _F16: (1, 2), _Q4_1: (BLOCK, 20), _Q8_0: (BLOCK, 34)}
"""Type -> weights per block, bytes per block."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file: name, shape as torch has it (rows first), type, and the place of its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    bytes: int


class Gguf:
    """The fields (name -> value) and tensors (name -> Tensor) of one file. UserError: not such a file."""

    def __init__(self, path: Path, field: str = "source") -> None:
        self.path, self.field = path, field
        try:
            self._data = np.memmap(path, np.uint8, "r")
            self._read()
        except (OSError, ValueError, struct.error, OverflowError, UnicodeDecodeError, KeyError) as error:
            raise UserError(field, path, f"is not a GGUF file that can be read here ({error})") from None

    def _read(self) -> None:
        self._at = 0
        if bytes(self._data[:4]) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version, tensors, count = self._take("<I"), self._take("<Q"), self._take("<Q")
        if version != 3:
            raise ValueError(f"version {version}, not 3")
        self.fields: dict[str, Any] = {}
        for _ in range(count):
            name = self._text()
            self.fields[name] = self._value(self._take("<I"))
        found = []
        for _ in range(tensors):
            name, dims = self._text(), self._take("<I")
            shape = tuple(reversed([self._take("<Q") for _ in range(dims)]))
            found.append((name, shape, self._take("<I"), self._take("<Q")))
        align = int(self.fields.get("general.alignment", 32))
        start = -(-self._at // align) * align
        self.tensors: dict[str, Tensor] = {}
        for name, shape, kind, offset in found:
            if kind not in _BYTES:
                raise ValueError(f"tensor {name} has type {kind}; known: {', '.join(NAMES.values())}")
            per, size = _BYTES[kind]
            tensor = Tensor(name, shape, kind, start + offset, math.prod(shape) // per * size)
            if tensor.start + tensor.bytes > len(self._data):
                raise ValueError(f"it ends within tensor {name}")
            self.tensors[name] = tensor

    def _take(self, kind: str) -> Any:
        size = struct.calcsize(kind)
        (value,) = struct.unpack(kind, self._data[self._at : self._at + size].tobytes())
        self._at += size
        return value

    def _text(self) -> str:
        size = self._take("<Q")
        self._at += size
        return self._data[self._at - size : self._at].tobytes().decode()

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            return self._take(_SCALARS[kind])
        kind, count = self._take("<I"), self._take("<Q")
        return [self._value(kind) for _ in range(count)]

    def weights(self, name: str) -> np.ndarray:
        """The tensor in float32, in its shape."""
        tensor = self.tensors[name]
        raw = np.asarray(self._data[tensor.start : tensor.start + tensor.bytes])
        return dequantise(raw, tensor.kind).reshape(tensor.shape)

    def steps(self, name: str) -> np.ndarray | None:
        """The rounding step of each block, float32 [blocks]; None where the tensor is not quantised."""
        tensor = self.tensors[name]
        if tensor.kind not in (_Q4_1, _Q8_0):
            return None
        raw = np.asarray(self._data[tensor.start : tensor.start + tensor.bytes])
        return raw.reshape(-1, _BYTES[tensor.kind][1])[:, :2].copy().view("<f2")[:, 0].astype(np.float32)


def dequantise(raw: np.ndarray, kind: int) -> np.ndarray:
    """float32 [weights] of the bytes of one tensor.

    Q8_0: 32 weights are a half-precision step d and 32 signed bytes q: d q. Q4_1: a step d, a least value m and 32
    halves of bytes q, the first 16 weights in the low halves: d q + m.
    """
    if kind == _F32:
        return raw.copy().view("<f4")
    if kind == _F16:
        return raw.copy().view("<f2").astype(np.float32)
    blocks = raw.reshape(-1, _BYTES[kind][1])
    step = blocks[:, :2].copy().view("<f2").astype(np.float32)
    if kind == _Q8_0:
        return (step * blocks[:, 2:].copy().view(np.int8).astype(np.float32)).reshape(-1)
    least = blocks[:, 2:4].copy().view("<f2").astype(np.float32)
    halves = blocks[:, 4:]
    q = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32)
    return (step * q + least).reshape(-1)
