"""Tokenizers of several kinds for experts of another family, and a world of texts of at most three letters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from understudy.protocols import Expert, TableSignal
from understudy.types import Prompt, Rollout, Signal

END = "<|stop|>"


def byte_level(merges: Sequence[tuple[str, str]] = (), end: str = END, order: Sequence[int] | None = None) -> Any:
    """Byte-level BPE with these merges. order: another numbering of its tokens."""
    pieces = ["<p>", end, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    if order is not None:
        pieces = [pieces[i] for i in order]
    return _made(pieces, merges, end, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                 decoders.ByteLevel())  # fmt: skip


def sentencepiece(words: Sequence[str], merges: Sequence[tuple[str, str]] = (), end: str = "</s>") -> Any:
    """As Llama 2's: a space is a letter of its own, one is put in front, unknown letters are bytes."""
    pieces = ["<unk>", end, "<p>", *(f"<0x{i:02X}>" for i in range(256)), *words, *(a + b for a, b in merges)]
    decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _made(pieces, merges, end, pre_tokenizers.Metaspace(prepend_scheme="always", split=False), decoder)


def letters(tokens: Sequence[str], merges: Sequence[tuple[str, str]] = ()) -> Any:
    """A tokenizer whose tokens are these letters, their merges and the end (number 0)."""
    return _made([END, *tokens, *(a + b for a, b in merges)], merges, END, None, decoders.Fuse())


def _made(pieces: Sequence[str], merges: Sequence[tuple[str, str]], end: str, before: Any, decoder: Any) -> Any:
    model = BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=list(merges), byte_fallback="<0x00>" in pieces,
                unk_token="<unk>" if "<unk>" in pieces else None)  # fmt: skip
    backend = Tokenizer(model)
    if before is not None:
        backend.pre_tokenizer = before
    backend.decoder = decoder
    special = [t for t in ("<p>", end) if t in pieces]
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<p>" if "<p>" in pieces else None, eos_token=end, unk_token=None,
        bos_token=None, clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip


class Tabular(Expert):
    """A float64 softmax with one row of logits per prefix of tokens, up to `most` of them; token 0 is the end.

    It stands for the student too: `probability` of a sequence has a gradient.
    """

    capabilities = frozenset({"sample", "score", "distribution"})
    context = 0

    def __init__(self, tokenizer: Any, seed: int, most: int = 3, table: Tensor | None = None) -> None:
        self.tokenizer, self.name, self.end_ids, self.vocabulary = tokenizer, f"tabular-{seed}", (0,), len(tokenizer)
        v = self.vocabulary
        self.prefixes = {
            p: i for i, p in enumerate(q for t in range(most) for q in itertools.product(range(1, v), repeat=t))
        }
        g = torch.Generator().manual_seed(seed)
        drawn = 1.2 * torch.randn(len(self.prefixes), v, dtype=torch.float64, generator=g)
        self.table = (drawn if table is None else table).requires_grad_()
        self.provenance: dict[str, Any] = {}
        self.most = most

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [p.encoded((0,)) for p in prompts]

    def rows(self, ids: Sequence[int]) -> Tensor:
        """(T, V) log-probs along a sequence."""
        return self.table[[self.prefixes[tuple(ids[:t])] for t in range(len(ids))]].log_softmax(-1)

    def logp(self, ids: Sequence[int]) -> Tensor:
        """(T,)"""
        return self.rows(ids).gather(-1, torch.tensor(ids)[:, None])[:, 0]

    def sequences(self) -> list[tuple[int, ...]]:
        """Everything that it can write: up to `most` tokens, with the end or cut."""
        v, out = range(1, self.vocabulary), []
        for t in range(self.most):
            out += [(*p, 0) for p in itertools.product(v, repeat=t)]
        return out + list(itertools.product(v, repeat=self.most))

    def completions(self) -> list[Rollout]:
        prompt = Prompt("p", "", ids=(0,))
        return [
            Rollout(prompt, i, ids, tuple(self.logp(ids).tolist()), ids[-1] == 0, "", "student")
            for i, ids in enumerate(self.sequences())
        ]

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [self.logp(r.ids).detach() for r in rollouts]

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        return TableSignal(torch.cat([self.rows(r.ids) for pack in packs for r in pack]).detach())


def student_of(tokenizer: Any, vocabulary: int = 0) -> Any:
    """What experts/foreign reads of a student."""
    ends = (tokenizer.eos_token_id,)
    return SimpleNamespace(tokenizer=tokenizer, name="student", end_ids=ends, vocabulary=vocabulary or len(tokenizer))
