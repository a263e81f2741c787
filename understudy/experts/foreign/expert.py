"""An expert of another family: it has another tokenizer than the student, and perhaps another chat template.

Its samples are text, written again in the student's tokens. It scores a completion as the text that it is, in its own
usual tokens: log expert(y) is that of one tokenization of the text y, not of all. Between two places where both
tokenizations have a boundary lies a span; a span has one log-prob of either side. At such a place the two next-token
distributions can be compared too, as far as the vocabularies can (signal.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.foreign.alignment import LOST
from understudy.experts.foreign.signal import Before, MatchedSignal
from understudy.experts.foreign.translation import Reads, Rewritten, Translation
from understudy.experts.foreign.vocabulary import Buckets, Side, buckets
from understudy.protocols import Expert, Supervision, Task
from understudy.types import MATCHED, Prompt, Rollout, Signal

PREVIEWED = 32
"""Answers that are aligned before training."""
MOST_LOST = 0.5
"""Share of their tokens that may be lost."""


class ForeignExpert(Expert):
    """Presents `expert`, which works in its own tokens, in those of the student."""

    reads_its_own = True

    def __init__(self, expert: Expert, reads: Reads, student: Any, match: str = "first") -> None:
        """reads: how the expert's prompts are written. student: a policy.Policy. match: see vocabulary.buckets."""
        self.expert, self.match, self.translation = expert, match, Translation(student, reads)
        self.name, self.field, self.noise = expert.name, expert.field, expert.noise
        self.tokenizer, self.vocabulary, self.end_ids = student.tokenizer, student.vocabulary, tuple(student.end_ids)
        able = expert.capabilities
        gives = {"top_k"} & able | ({MATCHED} if "distribution" in able else set())
        self.capabilities = frozenset({"sample", "score"} & able | gives)
        self.hint = (
            "it has another tokenizer than the student, so it cannot go on from the student's tokens: use sft, opd, "
            "opd_full or gkd"
        )
        self.held_out = expert.held_out
        self.provenance = dict(expert.provenance) | {"tokenizer": self.facts}
        self.about = self._about()

    # -- what of the two tokenizers fits ------------------------------------------------------------------------

    @cached_property
    def facts(self) -> dict[str, Any]:
        """How far the two vocabularies agree: tokens of either side, and those that both have."""
        t = self.translation
        own, other = ({x for x in texts if x} for texts in (t.texts, t.own_texts))
        return {"of": t.expert.name, "tokens": len(other), "student_tokens": len(own), "shared": len(own & other)}

    def _about(self) -> str:
        f = self.facts
        return (
            f"the expert {self.name} has another tokenizer: it reads the completions as text, in its own tokens; "
            f"{f['shared']:,} of the student's {f['student_tokens']:,} tokens are among its {f['tokens']:,}"
        )

    def preview(self, task: Task, seed: int) -> ForeignExpert:
        """Aligns known answers to train prompts (their own text where there are none), for `about` and the provenance.

        UserError: the expert's tokenizer writes most of them as other text.
        """
        student = self.translation.student
        prompts = student.encode(task.prompts("train", PREVIEWED, seed))
        texts = [_known(task, p) for p in prompts]
        found = self.alignment(
            [
                Rollout(p, 0, (*ids, self.end_ids[0]), (0.0,) * (len(ids) + 1), True, text, "expert")
                for p, text, ids in zip(prompts, texts, student.continuations(prompts, texts))
            ]
        )
        self.provenance["tokenizer"] = self.facts | found
        shares = [f"{100 * found[name]:.0f}%" for name in ("tokens_one_to_one", "bytes_one_to_one", "tokens_lost")]
        if found["tokens_lost"] > MOST_LOST:
            hint = (
                f"its tokenizer writes {shares[2]} of the tokens of known answers as other text (it normalises them?)"
            )
            raise UserError(self.field, self.name, f"{hint}: imitate its texts (recorded), or choose another")
        self.about += (
            f"; of known answers, {shares[0]} of the tokens ({shares[1]} of the bytes) are one token on both sides, "
            f"{shares[2]} are lost, the others are compared in longer spans"
        )
        return self

    def alignment(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Of these completions, the shares of the student's tokens and of the text's bytes in spans of one token of
        either side, the share of tokens that are lost, and the expert's tokens per token of the student."""
        written = self.translation.write(rollouts)
        texts = self.translation.texts
        alone = np.concatenate([a.one_to_one for a in written.alignments])
        lost = np.concatenate([a.student_T == LOST for a in written.alignments])
        size = np.array([len(texts[i]) for r in rollouts for i in r.ids])
        return {
            "tokens_one_to_one": float(alone.mean()), "bytes_one_to_one": float(size[alone].sum() / max(1, size.sum())),
            "tokens_lost": float(lost.mean()),
            "expert_tokens": sum(len(r.ids) for r in written.rollouts) / len(alone),
        }  # fmt: skip

    # -- samples ------------------------------------------------------------------------------------------------

    def apart(self, device: Any) -> bool:
        return self.expert.apart(device)

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """`max_new_tokens` bounds its own tokens and then the student's. Log-probs are not known: NaN."""
        own = self.translation.own_prompts(prompts)
        drawn = self.expert.sample(own, samples, seed, max_new_tokens)
        return self.translation.read([p for p in prompts for _ in range(samples)], drawn, max_new_tokens)

    def has_greedy(self) -> bool:
        return self.expert.has_greedy()

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        drawn = self.expert.greedy(self.translation.own_prompts(prompts), max_new_tokens)
        return self.translation.read(prompts, drawn, max_new_tokens)

    # -- scores -------------------------------------------------------------------------------------------------

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T,): log expert(span) at the last token of each span, 0 at all others, and at lost ones."""
        written = self.translation.write(rollouts)
        scores = self.expert.score(written.rollouts)
        if self.translation.same or not scores:
            return scores
        student_N, expert_M, width = _numbered(written)
        score_M = torch.cat([x.cpu() for x in scores])
        known_M = torch.from_numpy(expert_M != LOST)
        sum_K = score_M.new_zeros(width).index_add_(0, torch.from_numpy(expert_M)[known_M], score_M[known_M])
        last_n = np.flatnonzero((np.diff(student_N, append=LOST) != 0) & (student_N != LOST))
        out_N = score_M.new_zeros(len(student_N))
        out_N[torch.from_numpy(last_n)] = sum_K[torch.from_numpy(student_N[last_n])]
        return list(out_N.split([len(r.ids) for r in rollouts]))

    def spans(self, rollouts: Sequence[Rollout]) -> list[Tensor] | None:
        if self.translation.same:
            return None
        return [torch.from_numpy(a.student_T) for a in self.translation.write(rollouts).alignments]

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        rollouts = [r for pack in packs for r in pack]
        written, numbers = self.translation.write(rollouts), iter(range(len(rollouts)))
        own = [[written.rollouts[next(numbers)] for _ in pack] for pack in packs]
        return self.matched(self.expert.signal(own), written, range(len(rollouts)))

    def supervise(self, rollouts: Sequence[Rollout], top_k: int = 0) -> Supervision:
        return _Matched(self, rollouts, top_k)

    def matched(self, inner: Signal, written: Rewritten, which: Sequence[int]) -> MatchedSignal:
        """`inner`, the expert's about these of the written completions, for the student's tokens."""
        lengths = [len(written.rollouts[i].ids) for i in which]
        first = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        places = [written.alignments[i].place_T for i in which]
        place_N = np.concatenate([np.where(p < 0, -1, p + f) for p, f in zip(places, first)])
        rows_M = np.flatnonzero(place_N >= 0)
        taken = inner.taken(torch.from_numpy(place_N[rows_M]))
        known = self._buckets(written.source[0].prompt)
        before = _before(inner, known, written, which, place_N, first) if known.longer else None
        return MatchedSignal(taken, torch.from_numpy(rows_M), known, before)

    def _buckets(self, prompt: Prompt) -> Buckets:
        if self._known is None:
            t = self.translation
            if t.same and self.vocabulary == self.expert.vocabulary:
                own = torch.arange(self.vocabulary)
                self._known = Buckets(self.vocabulary, own, own)
            else:
                student = Side(t.texts, self.vocabulary, _encoder(self.tokenizer))
                expert = Side(t.own_texts, self.expert.vocabulary, _encoder(t.expert.tokenizer))
                self._known = buckets(student, expert, t.ends(prompt), self.match)
        return self._known

    _known: Buckets | None = None


def _before(
    inner: Signal, known: Buckets, written: Rewritten, which: Sequence[int], place_N: np.ndarray, first: np.ndarray
) -> Before | None:
    """Where the expert's token before could have been a longer one, written alike by the student so far.

    first: number of the first token of each completion in `inner`.
    """
    rows, places, tokens, longer = [], [], [], []
    row = at = 0
    for i, begins in zip(which, first):
        own, other = written.source[i].ids, written.rollouts[i].ids
        last = -1  # token of the student at the last place
        for t in range(len(own)):
            place = place_N[at + t] - begins
            if place_N[at + t] < 0:
                continue
            if last >= 0 and place_N[at + last] - begins == place - 1:
                found = known.longer.get((other[place - 1], own[last:t]))
                if found is not None:
                    rows.append(row)
                    places.append(int(begins + place - 1))
                    tokens.append(other[place - 1])
                    longer.append(found)
            last, row = t, row + 1
        at += len(own)
    if not rows:
        return None
    return Before(torch.tensor(rows), inner.taken(torch.tensor(places)), torch.tensor(tokens), longer)


def _numbered(written: Rewritten) -> tuple[np.ndarray, np.ndarray, int]:
    """(spans of the student's tokens, those of the expert's tokens, numbers used), counted through all completions."""
    before = 0
    student: list[np.ndarray] = []
    expert: list[np.ndarray] = []
    for a in written.alignments:
        student.append(np.where(a.student_T == LOST, LOST, a.student_T + before))
        expert.append(np.where(a.expert_K == LOST, LOST, a.expert_K + before))
        before += 1 + max(int(a.student_T.max()), int(a.expert_K.max()), 0)
    return np.concatenate(student), np.concatenate(expert), before


class _Matched(Supervision):
    """The expert's supervision of the same completions in its own tokens, matched with the student's."""

    def __init__(self, expert: ForeignExpert, rollouts: Sequence[Rollout], top_k: int) -> None:
        super().__init__(expert, rollouts)
        self._match, self._written = expert.matched, expert.translation.write(rollouts)
        self._inner = expert.expert.supervise(self._written.rollouts, top_k)

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        return self._match(self._inner.signal(packs), self._written, [i for pack in packs for i in pack])

    def finish(self) -> None:
        self._inner.finish()

    def stop(self) -> None:
        self._inner.stop()


def _encoder(tokenizer: Any) -> Any:
    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    return encode


def _known(task: Task, prompt: Prompt) -> str:
    """An answer to the prompt that is known without the expert, else the prompt's own text."""
    try:
        return next(iter(task.traces(prompt)), "") or task.demonstration(prompt) or task.gold(prompt)
    except UserError:
        return prompt.text or " ".join(content for _, content in prompt.messages)
