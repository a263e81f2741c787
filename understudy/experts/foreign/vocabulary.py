"""The bytes of every token of a tokenizer, and which tokens of two tokenizers stand for the same text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # what SentencePiece writes for a space
_READABLE = {"ByteLevel", "ByteFallback", "Metaspace", "Replace", "Fuse", "Strip", "Sequence"}


def token_bytes(tokenizer: Any, name: str, field: str = "expert") -> list[bytes]:
    """The text of each token id in UTF-8, or a part of a character; of a special token its name.

    UserError: a tokenizer whose tokens are not parts of the text (WordPiece), or one without a fast backend.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        hint = "its tokenizer has no fast version, so the bytes of its tokens are not known: use its texts (recorded)"
        raise UserError(field, name, hint)
    kinds = _kinds(json.loads(backend.to_str()).get("decoder"))
    if odd := sorted(kinds - _READABLE):
        hint = f"its tokenizer joins tokens by {odd[0]}: they are not parts of the text; use its texts (recorded)"
        raise UserError(field, name, hint)
    out = [b""] * len(tokenizer)
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    for content, i in tokenizer.get_vocab().items():
        if i < len(out):
            out[i] = added[i].encode() if i in added else _bytes_of(content, kinds)
    return out


def _kinds(decoder: Any) -> set[str]:
    if not isinstance(decoder, dict):
        return set()
    return {str(decoder.get("type"))}.union(*map(_kinds, decoder.get("decoders") or ()))


def _bytes_of(content: str, kinds: set[str]) -> bytes:
    if "ByteLevel" in kinds:
        letters = _byte_letters()
        return bytes(letters[c] for c in content) if all(c in letters for c in content) else content.encode()
    byte = _BYTE.fullmatch(content) if "ByteFallback" in kinds else None
    if byte:
        return bytes([int(byte[1], 16)])
    return (content.replace(_SPACE, " ") if kinds else content).encode()


@cache
def _byte_letters() -> dict[str, int]:
    """The letter that byte-level BPE writes for each byte: printable ones stand for themselves."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(b): b for b in own}
    return letters | {chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in own)}


Split = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Buckets:
    """Two vocabularies coarsened alike: tokens of either side in the same bucket count as one event.

    The last one, number `count`, is the tail: what has no counterpart on the other side.
    """

    count: int
    student_V: Tensor
    """Bucket of each token of the student."""
    expert_W: Tensor
    """Bucket of each token of the expert."""
    longer: Mapping[Split, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """A token of the expert, written as these tokens of the student -> (longer ones of the expert that begin so, a
    token of the expert in the bucket of what the student writes next in their text)."""
    moved: dict[torch.device, Buckets] = field(default_factory=dict, compare=False)

    @cached_property
    def one_to_one(self) -> tuple[Tensor, Tensor]:
        """(tokens of the student, tokens of the expert), (M,) each: those that are alone together in a bucket."""
        (s, own), (e, other) = (self._sorted(x) for x in (self.student_V, self.expert_W))
        return own[self._alone[s]], other[self._alone[e]]

    @cached_property
    def crowds(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
        """(tokens of the student that are not, the crowd of each), (likewise of the expert), number of crowds.

        A crowd is a bucket of several tokens of a side; the tail is the last one.
        """
        number = torch.cumsum(~self._alone, 0) - 1
        out = []
        for bucket in (self.student_V, self.expert_W):
            tokens = (~self._alone[bucket]).nonzero()[:, 0]
            out.append((tokens, number[bucket[tokens]]))
        return out[0], out[1], int(number[-1]) + 1

    @cached_property
    def _alone(self) -> Tensor:
        """(buckets,) whether it has one token of either side."""
        s, e = (torch.bincount(x, minlength=self.count + 1) for x in (self.student_V, self.expert_W))
        alone = (s == 1) & (e == 1)
        alone[-1] = False
        return alone

    @staticmethod
    def _sorted(bucket: Tensor) -> tuple[Tensor, Tensor]:
        """(buckets in order, the tokens in that order)."""
        order = torch.argsort(bucket, stable=True)
        return bucket[order], order

    def to(self, device: torch.device) -> Buckets:
        """The same on another device, made once."""
        if device == self.student_V.device:
            return self
        if device not in self.moved:
            self.moved[device] = Buckets(self.count, self.student_V.to(device), self.expert_W.to(device), self.longer)
        return self.moved[device]


Encode = Callable[[list[str]], list[list[int]]]


def buckets(
    student: Side, expert: Side, ends: Mapping[int, int], match: str = "first"
) -> Buckets:  # fmt: skip
    """One bucket per text that is a token of both; `ends`: end token of the student -> that of the expert.

    match: `shared`: all other tokens are the tail. `first`: a token that one side alone has counts where the first
    token does that the other side writes for its text.
    """
    both = set(student.texts) & set(expert.texts) - {b""}
    number = {text: i for i, text in enumerate(sorted(both))}
    for e in ends.values():  # an end token of the expert that has no namesake
        number.setdefault(expert.texts[e], len(number))
    count = len(number)
    student_V, expert_W = (
        torch.tensor([number.get(t, count) for t in side.texts] + [count] * (side.size - len(side.texts)))[: side.size]
        for side in (student, expert)
    )
    for s, e in ends.items():
        student_V[s] = number[expert.texts[e]]
    if match == "first":
        _by_first(student_V, student, expert, number)
        written = _by_first(expert_W, expert, student, number)
        return Buckets(count, student_V, expert_W, _longer(written, student, expert, student_V, expert_W))
    return Buckets(count, student_V, expert_W)


@dataclass(frozen=True)
class Side:
    """A vocabulary: the text of each token, the rows of the output head (padding included), and the tokenizer."""

    texts: list[bytes]
    size: int
    encode: Encode


def _by_first(bucket_V: Tensor, own: Side, other: Side, number: Mapping[bytes, int]) -> dict[int, list[int]]:
    """Move tokens out of the tail, into the bucket of the first token that the other side writes for their text.

    Returns what the other side writes for each.
    """
    tail = len(number)
    alone = [i for i in (bucket_V == tail).nonzero()[:, 0].tolist() if i < len(own.texts) and own.texts[i]]
    readable = [(i, text) for i in alone if (text := _text(own.texts[i])) is not None]
    written = dict(zip((i for i, _ in readable), other.encode([text for _, text in readable]) if readable else ()))
    for i in alone:
        text = own.texts[i]
        first = other.texts[written[i][0]] if written.get(i) else b""
        if not first or not text.startswith(first) or first not in number:
            first = next((text[:n] for n in range(len(text) - 1, 0, -1) if text[:n] in number), b"")
        bucket_V[i] = number.get(first, tail)
    return written


def _longer(
    written: Mapping[int, list[int]], student: Side, expert: Side, student_V: Tensor, expert_W: Tensor
) -> dict[Split, tuple[Tensor, Tensor]]:
    """See Buckets.longer. written: the student's tokens for each token that the expert alone has."""
    named = {text: i for i, text in enumerate(expert.texts) if text}
    in_bucket = dict(zip(expert_W.flip(0).tolist(), range(len(expert_W) - 1, -1, -1)))
    found: dict[Split, list[tuple[int, int]]] = {}
    for whole, ids in written.items():
        parts = [student.texts[i] for i in ids]
        if b"".join(parts) != expert.texts[whole]:
            continue
        for n in range(1, len(ids)):
            begins = named.get(b"".join(parts[:n]))
            follows = in_bucket.get(int(student_V[ids[n]]))
            if begins is not None and follows is not None:
                found.setdefault((begins, tuple(ids[:n])), []).append((whole, follows))
    return {split: (torch.tensor([x for x, _ in many]), torch.tensor([y for _, y in many]))
            for split, many in found.items()}  # fmt: skip


def _text(part: bytes) -> str | None:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return None
