"""Rollouts -> what the loss kernels read: per completion token a target, a weight, and the recorded behavior.

Each function computes one cell of the table; none knows a method's name.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from understudy import distributed
from understudy.config import Resolved
from understudy.methods import divergences
from understudy.methods.cells import Method
from understudy.methods.kernel import chunk_of, chunks
from understudy.methods.losses import Objective
from understudy.policy import Policy, pad, padding
from understudy.policy.sampling import inverse_cdf
from understudy.protocols import Expert, Supervision, TableSignal
from understudy.randomness import seed_from, uniforms
from understudy.types import Batch, Ledger, Prompt, Rollout, Signal, prompt_tokens

T = TypeVar("T")
WATCHED = 16
DRAWN = 64  # rollouts whose expert states exist at a time while labels are drawn


@dataclass(frozen=True)
class Labelled:
    """One rollout with its labels, all (T,) over its completion, and where its expert's distributions come from."""

    rollout: Rollout
    target_ids: Tensor
    weight: Tensor
    behavior_logp: Tensor
    supervision: Supervision | None = None
    """Of the whole update, for a distribution target."""
    place: int = 0
    """Number of this rollout in `supervision`."""
    imitated: bool = False
    """It is the expert's text beside the student's (sft_alpha): its loss is the negative log-likelihood."""
    reward_weight: Tensor | None = None
    """(T,) what rewards weigh its acted tokens, beside the expert's pull: of a token target `weight` has it added."""

    @property
    def pulls(self) -> bool:
        """Whether anything of it has a gradient."""
        return bool(self.weight.any()) or (self.reward_weight is not None and bool(self.reward_weight.any()))


def objective(method: Method) -> Objective:
    """The loss kernel of a method, and its options."""
    return Objective(
        target="distribution" if method.target == "distribution" else "token", divergence=method.divergence,
        beta=method.beta, importance=method.importance == "token", clip=method.clip,
        top_k=method.top_k, top_k_of=method.top_k_of,
    )  # fmt: skip


def label(
    rollouts: Sequence[Rollout],
    config: Resolved,
    student: Policy,
    expert: Expert | None,
    ledger: Ledger,
    targets: Sequence[Tensor] | None = None,
    kept: tuple[Supervision, Sequence[int]] | None = None,
) -> list[Labelled]:
    """Labels by the cells of `config`. Where replay has cached them, `targets` are given; or `kept`, the supervision of
    all cached rollouts and the numbers of these in it."""
    if not rollouts:
        return []
    acted = [torch.tensor(r.ids) for r in rollouts]
    behavior = [torch.tensor(r.behavior_logp, dtype=torch.float32) for r in rollouts]
    supervision, places = kept or (None, range(len(rollouts)))
    if config.target == "distribution" and supervision is None:
        supervision = _expert(expert).supervise(rollouts, experts_top_k(config))
        count_scored(ledger, rollouts, config, expert)
    if config.target == "expert_token" and targets is None:
        targets = expert_draws(rollouts, _expert(expert), config.seed)
        count_scored(ledger, rollouts, config, expert)
    weight = weights(rollouts, behavior, config, student, expert, ledger)
    reward = reward_weights(rollouts, config) if config.weight == "expert_reward" else [None] * len(rollouts)
    return [
        Labelled(
            r, acted[i] if targets is None else targets[i], weight[i], behavior[i], supervision, places[i], False,
            reward[i],
        )
        for i, r in enumerate(rollouts)
    ]  # fmt: skip


def with_text(own: Sequence[Labelled], texts: Sequence[Rollout], alpha: float, reduction: str) -> list[Labelled]:
    """The student's rollouts and the expert's texts in one update: the loss is 1 - alpha times that of the first alone
    plus alpha times the negative log-likelihood of the others, each reduced on its own. (collective)"""
    added = [
        Labelled(
            dataclasses.replace(r, prompt=dataclasses.replace(r.prompt, key=f"{r.prompt.key} text")),
            torch.tensor(r.ids), torch.ones(len(r.ids)), torch.zeros(len(r.ids)), imitated=True,
        )
        for r in texts
    ]  # fmt: skip
    by_token = reduction == "token_mean"
    sizes = distributed.total([sum(len(x.rollout.ids) if by_token else 1 for x in part) for part in (own, added)])
    if not all(sizes):
        return [*own, *added]
    shares = zip((own, added), (1 - alpha, alpha), sizes)
    return [_scaled(x, share * sum(sizes) / size) for part, share, size in shares for x in part]


def _scaled(x: Labelled, factor: float) -> Labelled:
    reward = None if x.reward_weight is None else factor * x.reward_weight
    return dataclasses.replace(x, weight=factor * x.weight, reward_weight=reward)


def annealed(config: Resolved, progress: float) -> Resolved:
    """With the expert_coef of an update when `progress` of the training (0 to 1) is over."""
    if not config.expert_anneal:
        return config
    return dataclasses.replace(config, expert_coef=config.expert_coef * (1 - config.expert_anneal * progress))


def experts_top_k(method: Method) -> int:
    """How many of its own top tokens are all that the expert is needed for; 0 = its whole distribution."""
    return method.top_k if method.top_k_of == "expert" else 0


def weights(
    rollouts: Sequence[Rollout],
    behavior: list[Tensor],
    method: Method,
    student: Policy,
    expert: Expert | None,
    ledger: Ledger,
) -> list[Tensor]:
    """Per rollout (T,) weights of the target's loss: 1, the log-ratio to go, the group advantage, or by their factors
    the expert's pull and this; times a base's importance ratio."""
    lengths = [len(r.ids) for r in rollouts]
    row_N = torch.arange(len(rollouts)).repeat_interleave(torch.tensor(lengths))
    weight_N = torch.ones(len(row_N))
    student_N = behavior_N = torch.cat(behavior)
    if method.behavior == "base":
        student_N = torch.cat(student.score(rollouts)).cpu()
    if method.reads_scores:
        expert_N = torch.cat(_expert(expert).score(rollouts)).cpu()
        count_scored(ledger, rollouts, method, expert)
        spans = _expert(expert).spans(rollouts)
        if spans is None:
            weight_N = divergences.discounted_to_go(expert_N - student_N, row_N, method.gamma)
        else:
            weight_N = divergences.spans_to_go(expert_N - student_N, row_N, torch.cat(spans), method.gamma)
    if method.weight == "advantage":
        weight_N = advantages(rollouts, method.advantage_norm)[row_N]
    elif method.weight == "expert_reward":
        weight_N = method.expert_coef * weight_N
        if method.target == "token":
            weight_N = weight_N + torch.cat(reward_weights(rollouts, method))
    if method.behavior == "base" and method.importance != "none":
        log_ratio_N = divergences.prefix_log_ratio(student_N, behavior_N, row_N)
        weight_N = weight_N * log_ratio_N.exp().clamp_max(method.importance_cap)
    return list(weight_N.split(lengths))


def reward_weights(rollouts: Sequence[Rollout], method: Method) -> list[Tensor]:
    """Per rollout (T,): advantage_coef times its group advantage, at every token; 0 where the expert has written it."""
    if rollouts[0].actor == "expert":
        return [torch.zeros(len(r.ids)) for r in rollouts]
    scaled_B = method.advantage_coef * advantages(rollouts, method.advantage_norm)
    return [scaled_B[i].repeat(len(r.ids)) for i, r in enumerate(rollouts)]


def advantages(rollouts: Sequence[Rollout], normalise: str) -> Tensor:
    """(B,) group advantages; groups are the rollouts of one prompt, which must be equally many and adjacent."""
    group = 1
    while group < len(rollouts) and rollouts[group].prompt.key == rollouts[0].prompt.key and rollouts[group].sample:
        group += 1
    reward_BG = torch.tensor([_reward(r) for r in rollouts], dtype=torch.float32).view(-1, group)
    return divergences.group_advantages(reward_BG, normalise).flatten()


def expert_draws(rollouts: Sequence[Rollout], expert: Expert, seed: int) -> list[Tensor]:
    """A fresh expert token at every prefix of every rollout: DAgger's labels."""
    supervision, out = expert.supervise(rollouts), []
    for first in range(0, len(rollouts), DRAWN):
        part = range(first, min(first + DRAWN, len(rollouts)))
        signal, lengths = supervision.signal([[i] for i in part]), [len(rollouts[i].ids) for i in part]
        u_N = np.concatenate(
            [uniforms(seed, f"label/{rollouts[i].prompt.key}", rollouts[i].sample, len(rollouts[i].ids)) for i in part]
        )
        size = chunk_of(expert.vocabulary, torch.device("cpu"))
        drawn = [inverse_cdf(signal.table(at), u_N[at]).cpu() for at in chunks(sum(lengths), size)]
        out += torch.cat(drawn).split(lengths)
    return out


def count_scored(ledger: Ledger, rollouts: Sequence[Rollout], method: Method, expert: Expert | None) -> None:
    """Add to the ledger what it costs that the expert scores these, and the base where it is read too.

    expert: None: one that reads the student's prompts.
    """
    tokens, before = sum(len(r.ids) for r in rollouts), prompt_tokens(rollouts)
    ledger.expert_calls += len(rollouts)
    ledger.expert_tokens_scored += tokens
    ledger.expert_prompt_tokens += before if expert is None else expert.prompt_tokens([r.prompt for r in rollouts])
    ledger.base_tokens_scored += (tokens + before) * method.extrapolates


@dataclass
class Clock:
    """Seconds that were spent waiting for the expert."""

    seconds: float = 0.0


def batches(
    parts: Sequence[Sequence[Sequence[Labelled]]], student: Policy, clock: Clock | None = None
) -> Generator[Batch, None, None]:
    """What the loss kernels read, one batch per part (see `split`). clock: counts the time that the expert takes.

    The expert works on a part when it is reached; on another device than the student's, in a thread, one part ahead.
    Close this generator where it is not read to its end.
    """
    supervisions = list({id(s): s for part in parts if (s := part[0][0].supervision) is not None}.values())
    jobs = [partial(_signal, part) for part in parts]
    with ExitStack() as stack:
        signals: Iterator[Signal | None] = (job() for job in jobs)
        if any(s.apart(student.device) for s in supervisions):
            signals = stack.enter_context(closing(ahead(jobs)))
        for s in supervisions:
            stack.callback(s.stop)
        for packs in parts:
            began = time.perf_counter()
            signal = next(signals)
            if clock is not None:
                clock.seconds += time.perf_counter() - began
            padded = pad([[x.rollout for x in pack] for pack in packs], student.pad_id, student.device)
            rows = [x for pack in packs for x in pack]
            yield Batch(
                padded.input_ids_BS, padded.attention_mask, padded.position_ids_BS, padded.place_N,
                torch.cat([x.target_ids for x in rows]).to(student.device), padded.row_N,
                torch.cat([x.weight for x in rows]).to(student.device),
                torch.cat([x.behavior_logp for x in rows]).to(student.device), signal,
                watched([x.rollout for x in rows]), _joined([x.reward_weight for x in rows], student.device),
            )  # fmt: skip
        for s in supervisions:
            s.finish()


def _joined(parts: Sequence[Tensor | None], device: torch.device) -> Tensor | None:
    """(N,) of all rows; None where the method has none of it."""
    there = [part for part in parts if part is not None]
    return torch.cat(there).to(device) if there else None


def watched(rollouts: Sequence[Rollout]) -> Tensor:
    """(M,) numbers of the tokens whose entropies are logged: a few of every rollout, the same in any batch.

    At most one token in WATCHED, so that they cost an update 1%; at least one of each.
    """
    places, before = [], 0
    for r in rollouts:
        stride = min(WATCHED, max(1, len(r.ids) // 2))
        places.append(np.arange(seed_from("watch", r.prompt.key, r.sample) % stride, len(r.ids), stride) + before)
        before += len(r.ids)
    return torch.from_numpy(np.concatenate(places))


@torch.no_grad()
def _signal(packs: Sequence[Sequence[Labelled]]) -> Signal | None:
    supervision = packs[0][0].supervision
    return None if supervision is None else supervision.signal([[x.place for x in pack] for pack in packs])


def ahead(jobs: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
    """The results in order, each computed by one thread while the result before it is used. Errors are raised here."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    waiting: Future[T] | None = None
    try:
        for job in jobs:
            before, waiting = waiting, pool.submit(job)
            if before is not None:
                yield before.result()
        if waiting is not None:
            yield waiting.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Uniform(Supervision):
    """Of rows whose weight is zero: anything finite."""

    def __init__(self, student: Policy) -> None:
        self.student = student

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        v = self.student.vocabulary
        return TableSignal(torch.full((sum(map(len, packs)), v), -math.log(v)))


def empty_row(student: Policy, goal: Objective) -> Labelled:
    """A row of weight zero and one token, for a process that has none left."""
    end = student.end_ids[0]
    r = Rollout(Prompt("", "", ids=(end,)), 0, (end,), (0.0,), True, "", "student", None)
    uniform = _Uniform(student) if goal.target == "distribution" else None
    return Labelled(r, torch.tensor([end]), torch.zeros(1), torch.zeros(1), uniform)


def split(
    labelled: Sequence[Labelled], student: Policy, micro_batch: int = 0, micro_tokens: int = 0
) -> list[list[list[Labelled]]]:
    """The packs of each batch, see padding.split. micro_tokens: 0 = as suits the device."""
    tokens = micro_tokens or micro_tokens_on(student.device.type)
    return padding.split(labelled, lambda x: x.rollout, micro_batch, tokens, student.packs)


def micro_tokens_on(device: str) -> int:
    """Padded tokens per forward pass: on a CPU few, since its caches are small and a pass costs little beside."""
    return 2048 if device == "cpu" else 16_384


def _reward(rollout: Rollout) -> float:
    if rollout.reward is None:
        raise ValueError(f"rollout {rollout.prompt.key} was not verified")
    return rollout.reward


def _expert(expert: Expert | None) -> Expert:
    if expert is None:
        raise ValueError("this row's labels need an expert")
    return expert
