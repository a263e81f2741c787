"""Several experts as one: every prompt has its own, by a field of its row (assignment.py).

A row's loss is that of its own expert alone. Names with the same spec are one expert, which is loaded once and computes
their rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from understudy.config import ExpertSpec
from understudy.experts.assignment import Assignment, assignment_of, specs_of
from understudy.methods.divergences import with_tail
from understudy.policy import check_same_language
from understudy.protocols import Arrived, Expert, Stepper, Supervision, Task
from understudy.types import MATCHED, Prompt, Rollout, Signal

T = TypeVar("T")
Packs = Sequence[Sequence[int]]
"""Packs of rollouts, which are numbers."""


def load_several(
    spec: ExpertSpec, task: Task, student: Any, load: Callable[[ExpertSpec, Task, Any], Expert]
) -> SeveralExperts:  # fmt: skip
    """The experts that `spec` names, each loaded by `load`. UserError: one cannot be, or does not fit the student; a
    train prompt has no expert."""
    assignment = assignment_of(spec.expert, spec.expert_of, task)
    shares = assignment.shares(spec.seed)
    known: dict[tuple[ExpertSpec, int], Expert] = {}
    members = {}
    for name, (one, part) in specs_of(spec, task).items():
        key = (one, id(part))
        if key not in known:
            known[key] = load(one, part, student)
            check_same_language(student, known[key], f"{name}={one.expert}")
        members[name] = known[key]
    return SeveralExperts(members, assignment, shares, student)


class SeveralExperts(Expert):
    """Sends prompts and rollouts to their own experts, and puts the answers in the order of the questions."""

    def __init__(
        self, members: Mapping[str, Expert], assignment: Assignment, shares: Mapping[str, float], student: Any
    ) -> None:
        """shares: of the train prompts. student: its tokenizer, end tokens and vocabulary are those of all."""
        self.several, self.assignment = dict(members), assignment
        self.tokenizer, self.vocabulary, self.end_ids = student.tokenizer, student.vocabulary, tuple(student.end_ids)
        self.name = " ".join(f"{name}={e.name}" for name, e in members.items())
        experts = self._experts = list({id(e): e for e in members.values()}.values())
        self.capabilities = common([e.capabilities for e in experts])
        self.hint = "; ".join(dict.fromkeys(e.hint for e in experts if e.hint))
        self.held_out = all(e.held_out for e in experts)
        self.own_prompts = any(e.own_prompts for e in experts)
        self.reads_its_own = all(e.reads_its_own for e in experts)
        noises = [e.noise for e in experts if e.noise is not None]
        self.noise = max(noises) if noises else None
        shown = ", ".join(f"{name} {100 * share:.0f}%" for name, share in shares.items())
        abouts = [f"{name}: {e.about}" for name, e in members.items() if e.about]
        self.about = "; ".join([f"experts of the train prompts, by {assignment.field}: {shown}", *abouts])
        weights = {name: float(e.provenance.get("parameters") or 0) for name, e in members.items()}
        self.provenance = {
            "kind": "several", "expert_of": assignment.field, "shares": dict(shares),
            # by which the ledger counts FLOPs: the mean over the train prompts of their own expert's weights
            "parameters": round(sum(shares[name] * weights[name] for name in members)),
            "experts": {
                name: {"name": e.name, "capabilities": sorted(e.capabilities), "provenance": e.provenance}
                for name, e in members.items()
            },
        }  # fmt: skip

    def assigned(self, prompts: Sequence[Prompt]) -> list[tuple[str, Expert, list[int]]]:
        return [(name, self.several[name], which) for name, which in self.assignment.groups(prompts).items()]

    def by_expert(self, prompts: Sequence[Prompt]) -> list[tuple[Expert, list[int]]]:
        """(expert, rising numbers of its prompts): names that mean one expert together."""
        out: dict[int, tuple[Expert, list[int]]] = {}
        for _, expert, which in self.assigned(prompts):
            out.setdefault(id(expert), (expert, []))[1].extend(which)
        return [(expert, sorted(which)) for expert, which in out.values()]

    def _each(
        self, items: Sequence[Any], prompts: Sequence[Prompt], answer: Callable[[Expert, list[Any]], Sequence[T]],
        n: int = 1,
    ) -> list[T]:  # fmt: skip
        """The answers of the experts to their own items, `n` to each, in the order of the items."""
        out: list[list[T]] = [[] for _ in items]
        for expert, which in self.by_expert(prompts):
            answers = answer(expert, [items[i] for i in which])
            for at, i in enumerate(which):
                out[i] = list(answers[at * n : (at + 1) * n])
        return [x for row in out for x in row]

    def _scored(self, rollouts: Sequence[Rollout], answer: Callable[[Expert, list[Any]], Sequence[T]]) -> list[T]:
        return self._each(rollouts, [r.prompt for r in rollouts], answer)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> int:
        return sum(e.prompt_tokens([prompts[i] for i in which]) for e, which in self.by_expert(prompts))

    def apart(self, device: Any) -> bool:
        return all(e.apart(device) for e in self._experts)

    # -- samples ------------------------------------------------------------------------------------------------

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        parts = self.by_expert(prompts)
        return SeveralSteps([e.start([prompts[i] for i in which]) for e, which in parts], [w for _, w in parts])

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return self._each(prompts, prompts, lambda e, part: e.sample(part, samples, seed, max_new_tokens), samples)

    def has_greedy(self) -> bool:
        return all(e.has_greedy() for e in self._experts)

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self._each(prompts, prompts, lambda e, part: e.greedy(part, max_new_tokens))

    # -- scores -------------------------------------------------------------------------------------------------

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self._scored(rollouts, lambda e, part: [x.cpu() for x in e.score(part)])

    def spans(self, rollouts: Sequence[Rollout]) -> list[Tensor] | None:
        """Of an expert that scores every token by itself: every token."""
        some = False

        def spans_of(expert: Expert, part: list[Rollout]) -> list[Tensor]:
            nonlocal some
            found = expert.spans(part)
            some |= found is not None
            return found if found is not None else [torch.arange(len(r.ids)) for r in part]

        out = self._scored(rollouts, spans_of)
        return out if some else None

    def alignment(self, rollouts: Sequence[Rollout]) -> dict[str, float] | None:
        """Of the expert that loses most."""
        found = [e.alignment([rollouts[i] for i in which]) for e, which in self.by_expert([r.prompt for r in rollouts])]
        return max((x for x in found if x is not None), key=lambda x: x["tokens_lost"], default=None)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self._scored(rollouts, lambda e, part: e.distribution(part))

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        rollouts = [r for pack in packs for r in pack]
        parts = self.by_expert([r.prompt for r in rollouts])
        numbers = iter(range(len(rollouts)))
        numbered = [[next(numbers) for _ in pack] for pack in packs]

        def asked(expert: Expert) -> Callable[[Packs], Signal]:
            return lambda inner: expert.signal([[rollouts[i] for i in pack] for pack in inner])

        own = [(asked(expert), frozenset(which)) for expert, which in parts]
        return joined(own, numbered, [len(r.ids) for r in rollouts])

    def supervise(self, rollouts: Sequence[Rollout], top_k: int = 0) -> Supervision:
        return SeveralSupervision(self, rollouts, top_k)

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        out: dict[int, dict[str, Tensor]] = {}
        for expert, which in self.by_expert([r.prompt for r in rollouts]):

            def report(at: int, entry: dict[str, Tensor], which: list[int] = which) -> None:
                if arrived:
                    arrived(which[at], entry)

            out |= dict(zip(which, expert.entries([rollouts[i] for i in which], k, report)))
        return [out[i] for i in range(len(rollouts))]

    def keep_bytes(self, top_k: int = 0) -> int:
        """Their top k, where all have one; whole distributions of several have no common form, so all work again."""
        if len(self._experts) == 1:
            return self._experts[0].keep_bytes(top_k)
        return 8 * top_k if all(e.keep_bytes(top_k) for e in self._experts) else 0

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        if len(self._experts) == 1:
            return self._experts[0].keep(rollouts, top_k)
        return [{n: e[n] for n in ("top_ids", "top_logp")} for e in self.entries(rollouts, top_k)]

    def keep_shared(self) -> dict[str, Tensor]:
        return self._experts[0].keep_shared() if len(self._experts) == 1 else {}


def common(capabilities: Sequence[frozenset[str]]) -> frozenset[str]:
    """What all can do. A whole distribution is also a top k, and can be compared as a matched one is."""
    if all("distribution" in able for able in capabilities):
        return frozenset.intersection(*capabilities)
    implied = {"top_k", MATCHED}
    return frozenset.intersection(*(able | implied if "distribution" in able else able for able in capabilities))


class SeveralSteps(Stepper):
    """Rows that several steppers decode. which: the numbers of the rows of each, rising, all of them once."""

    def __init__(self, steppers: Sequence[Stepper], which: Sequence[Sequence[int]]) -> None:
        self._parts = [(s, torch.tensor(rows)) for s, rows in zip(steppers, which)]

    def next_logits(self) -> Tensor:
        logits = [s.next_logits() for s, _ in self._parts]
        out_BV = logits[0].new_empty(sum(len(x) for x in logits), logits[0].shape[-1])
        for x, (_, rows) in zip(logits, self._parts):
            out_BV[rows.to(out_BV.device)] = x.to(out_BV)
        return out_BV

    def advance(self, tokens_B: Tensor) -> None:
        for s, rows in self._parts:
            s.advance(tokens_B[rows.to(tokens_B.device)])

    def keep(self, rows: Tensor) -> None:
        rows, parts = rows.cpu(), []
        for s, own in self._parts:
            left = torch.isin(own, rows)
            if not bool(left.any()):
                continue
            if not bool(left.all()):
                s.keep(left.nonzero()[:, 0])
            parts.append((s, torch.searchsorted(rows, own[left])))
        self._parts = parts


class SeveralSupervision(Supervision):
    """The supervisions of several experts, each of its own rollouts."""

    def __init__(self, expert: SeveralExperts, rollouts: Sequence[Rollout], top_k: int) -> None:
        super().__init__(expert, rollouts)
        self._parts: list[tuple[Supervision, dict[int, int]]] = []
        self._lengths = [len(r.ids) for r in rollouts]
        try:
            for one, which in expert.by_expert([r.prompt for r in rollouts]):
                inner = one.supervise([rollouts[i] for i in which], top_k)
                self._parts.append((inner, {i: own for own, i in enumerate(which)}))
        except BaseException:
            self.stop()
            raise

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        def asked(part: Supervision, own: Mapping[int, int]) -> Callable[[Packs], Signal]:
            return lambda inner: part.signal([[own[i] for i in pack] for pack in inner])

        own = [(asked(part, numbers), frozenset(numbers)) for part, numbers in self._parts]
        return joined(own, packs, self._lengths)

    def finish(self) -> None:
        for supervision, _ in self._parts:
            supervision.finish()

    def stop(self) -> None:
        for supervision, _ in self._parts:
            supervision.stop()


def joined(
    parts: Sequence[tuple[Callable[[Packs], Signal], frozenset[int]]], packs: Packs, lengths: Sequence[int]
) -> Signal:  # fmt: skip
    """The signal of all packs, from those of the experts. A pack whose rollouts have several experts is divided.

    parts: (packs -> what one expert says of them, the rollouts that are its own).
    """
    out: list[tuple[Signal, Tensor]] = []
    order = [i for pack in packs for i in pack]
    sizes = torch.tensor([lengths[i] for i in order])
    for signal_of, own in parts:
        inner = [kept for pack in packs if (kept := [i for i in pack if i in own])]
        if len(inner) == len(packs) and sum(map(len, inner)) == len(order):
            return signal_of(packs)
        if inner:
            mine = torch.tensor([i in own for i in order]).repeat_interleave(sizes)
            out.append((signal_of(inner), mine.nonzero()[:, 0]))
    return SeveralSignal(out)


class SeveralSignal(Signal):
    """types.Signal of N tokens from signals of some of them each. places: their numbers among the N, rising, on the
    CPU."""

    def __init__(self, parts: Sequence[tuple[Signal, Tensor]]) -> None:
        self.parts = parts

    def _in(self, at: slice) -> Iterator[tuple[Signal, slice, Tensor]]:
        """(signal, which of its tokens lie in the slice, their numbers counted from its beginning)."""
        for signal, places in self.parts:
            first, last = torch.searchsorted(places, torch.tensor([at.start, at.stop])).tolist()
            if last > first:
                yield signal, slice(first, last), places[first:last] - at.start

    def _filled(self, at: slice, pieces: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        like = pieces[0][1]
        out = like.new_empty(at.stop - at.start, like.shape[-1])
        for rows, piece in pieces:
            out[rows.to(out.device)] = piece.to(out)
        return out

    def table(self, at: slice) -> Tensor:
        return self._filled(at, [(rows, signal.table(part)) for signal, part, rows in self._in(at)])

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        pieces = [(rows, s.at(ids_nK[rows.to(ids_nK.device)], part)) for s, part, rows in self._in(at)]
        return self._filled(at, pieces)

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        best = [(rows, signal.top_k(k, part)) for signal, part, rows in self._in(at)]
        ids, logps = ([(rows, pair[i]) for rows, pair in best] for i in (0, 1))
        return self._filled(at, ids), self._filled(at, logps)

    def taken(self, rows_M: Tensor) -> Signal:
        out = []
        for signal, places in self.parts:
            there = torch.isin(rows_M.cpu(), places).nonzero()[:, 0]
            if len(there):
                out.append((signal.taken(torch.searchsorted(places, rows_M.cpu()[there])), there))
        return SeveralSignal(out)

    def beside(self, student_nV: Tensor, at: slice, top_k: int, top_k_of: str) -> Tensor | None:
        parts = list(self._in(at))
        rows_of = [student_nV[rows.to(student_nV.device)] for _, _, rows in parts]
        tables = [s.beside(p_mV, part, top_k, top_k_of) for (s, part, _), p_mV in zip(parts, rows_of)]
        if all(x is None for x in tables):
            return None
        for i, (s, part, _) in enumerate(parts):
            if tables[i] is None:
                tables[i] = _coarse_beside(s, rows_of[i], part, top_k, top_k_of)
        return self._filled(at, [(rows, x.to(student_nV)) for (_, _, rows), x in zip(parts, tables) if x is not None])

    def own(self, beside_nV: Tensor, kept_m: Tensor | None, at: slice) -> Tensor:
        """Row by row of each expert in turn; narrower rows end with tokens of no mass."""
        tables = []
        for signal, part, rows in self._in(at):
            rows_m = None if kept_m is None else torch.isin(rows, kept_m.cpu()).nonzero()[:, 0]
            own_mW = signal.own(beside_nV[rows.to(beside_nV.device)], rows_m, part)
            tables.append(own_mW.to(beside_nV.device))
        wide = max(x.shape[-1] for x in tables)
        return torch.cat([_padded(x, wide) for x in tables])

    def ranked(self, student_nV: Tensor, at: slice) -> Tensor:
        pieces = [
            (rows, s.ranked(student_nV[rows.to(student_nV.device)], part).to(student_nV))
            for s, part, rows in self._in(at)
        ]
        wide = max(x.shape[-1] for _, x in pieces)
        return self._filled(at, [(rows, _padded(x, wide)) for rows, x in pieces])


def _padded(x_mW: Tensor, wide: int) -> Tensor:
    return torch.nn.functional.pad(x_mW, (0, wide - x_mW.shape[-1]), value=-torch.inf)


def _coarse_beside(signal: Signal, student_mV: Tensor, part: slice, k: int, of: str) -> Tensor:
    """(m, V) log-probs with the expert's of the top k; the rest of its mass is divided as the student divides its own,
    which adds nothing to a divergence of the coarsened distributions or its gradient."""
    if of == "student":
        ids_mK = student_mV.topk(min(k, student_mV.shape[-1] - 1), -1).indices
        expert_mK = signal.at(ids_mK, part)
    else:
        ids_mK, expert_mK = signal.top_k(k, part)
        ids_mK = ids_mK.to(student_mV.device)
    expert_mK = expert_mK.to(student_mV)
    rest_m1 = with_tail(expert_mK)[:, -1:] - with_tail(student_mV.gather(-1, ids_mK))[:, -1:]
    return (student_mV + rest_m1).scatter_(-1, ids_mK, expert_mK)
