"""Provides the smallest training: a configuration, the task `coin`, experts that count calls, a check of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.config import TrainConfig
from understudy.experts.entries import Kept
from understudy.protocols import Expert, Stepper, Supervision, TableSignal
from understudy.tasks.countdown import CountdownTask
from understudy.training.labels import Labelled, expert_draws
from understudy.types import Prompt, Rollout

STUDENT = "scratch:width=16,layers=1,heads=2,context=128"


class CoinTask(CountdownTask):
    """Countdown whose verifier accepts texts of even length, so about half of the completions of any policy pass."""

    name = "coin"

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return 1.0 if len(text) % 2 == 0 or text == self.gold(prompt) else 0.0


class KindsTask(CoinTask):
    """The same, each prompt of kind a or b: which of two experts it has."""

    name = "kinds"

    def fields(self, prompt: Prompt) -> Mapping[str, Any]:
        return {**super().fields(prompt), "kind": "ab"[sum(prompt.data["nums"]) % 2]}


def config(method: str, out: Path, **changes: Any) -> TrainConfig:
    """A run that takes a fraction of a second. The expert is not evaluated, so the ledger counts every call."""
    fields: dict[str, Any] = {
        "method": method, "out": str(out), "student": STUDENT, "expert": "solver", "task": "coin", "updates": 2,
        "prompts_per_update": 4, "samples_per_prompt": 2, "max_new_tokens": 16, "round_updates": 1, "eval_every": 0,
        "eval_prompts": 2, "final_prompts": 2, "final_samples": 1, "eval_splits": "test", "eval_expert": False,
        "save_every": 0, "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**(fields | changes))


class WrappedExpert(Expert):
    """Forwards everything to `expert`; subclasses override parts."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        for name in Expert.__annotations__:
            setattr(self, name, getattr(expert, name))

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        return self.expert.start(prompts)

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return self.expert.sample(prompts, samples, seed, max_new_tokens)

    def has_greedy(self) -> bool:
        return self.expert.has_greedy()

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self.expert.greedy(prompts, max_new_tokens)

    def score(self, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        return self.expert.score(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        return self.expert.distribution(rollouts)


class Tables(Supervision):
    """Supervision from (T, V) log-probs of each rollout."""

    def __init__(self, tables: Sequence[torch.Tensor]) -> None:
        self.tables = tables

    def signal(self, packs: Sequence[Sequence[int]]) -> TableSignal:
        return TableSignal(torch.cat([self.tables[i] for pack in packs for i in pack]))


class CountingExpert(WrappedExpert):
    """An expert that counts its calls, as the reference for the run's ledger."""

    def __init__(self, expert: Expert) -> None:
        super().__init__(expert)
        self.calls = self.scored = self.sampled = 0

    def start(self, prompts: Sequence[Prompt]) -> Any:
        self.calls += len(prompts)
        steps: Any = self.expert.start(prompts)
        ask = steps.next_logits

        def counted() -> torch.Tensor:
            logp_BV = ask()
            self.scored += len(logp_BV)
            return logp_BV

        steps.next_logits = counted
        return steps

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        out = self.expert.sample(prompts, samples, seed, max_new_tokens)
        self.calls += len(out)
        self.sampled += sum(len(r.ids) for r in out)
        return out

    def score(self, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        self._count(rollouts)
        return self.expert.score(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
        self._count(rollouts)
        return self.expert.distribution(rollouts)

    def keep_bytes(self, top_k: int = 0) -> int:
        return self.expert.keep_bytes(top_k)

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> Any:
        self._count(rollouts)
        return self.expert.keep(rollouts, top_k)

    def keep_shared(self) -> Any:
        return self.expert.keep_shared()

    def _count(self, rollouts: Sequence[Rollout]) -> None:
        self.calls += len(rollouts)
        self.scored += sum(len(r.ids) for r in rollouts)


def check_labels(labelled: Sequence[Labelled], c: TrainConfig, expert: Callable[[], Any]) -> None:
    """Asserts that every label belongs to its rollout: recomputes targets, distributions and weights one by one."""
    for x in labelled:
        r = x.rollout
        assert x.target_ids.shape == x.weight.shape == x.behavior_logp.shape == (len(r.ids),)
        assert x.behavior_logp.tolist() == torch.tensor(r.behavior_logp).tolist()
        assert torch.isfinite(x.weight).all()
        if c.weight == "passed":
            assert r.reward == 1.0, "a failed completion was kept"
        if c.target == "expert_token":
            assert x.target_ids.tolist() == expert_draws([r], expert(), c.seed)[0].tolist(), "another rollout's labels"
        else:
            assert x.target_ids.tolist() == list(r.ids)
        if c.target == "distribution":
            assert x.supervision is not None
            says: Any = x.supervision
            if isinstance(says, Kept):
                got = says.signal([[x.place]]).table(slice(0, len(r.ids)))
                torch.testing.assert_close(got, expert().distribution([r])[0], atol=2e-5, rtol=0)
            else:
                assert says.rollouts[x.place] is r
                assert says.expert.expert is expert()
        else:
            assert x.supervision is None
        if c.weight == "log_ratio" and c.behavior == "student" and c.gamma == 0:
            log_ratio = expert().score([r])[0] - x.behavior_logp
            if c.extrapolates:  # the base is the student of update 0
                continue
            torch.testing.assert_close(x.weight, log_ratio, atol=2e-5, rtol=0)
        if c.weight in ("one", "passed") and c.importance == "none":
            assert bool((x.weight == 1).all())
