"""When a run evaluates and what it writes: the eval lines of metrics.jsonl, samples.jsonl, and final.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from understudy import distributed, running
from understudy.config import Resolved
from understudy.evaluation.numbers import duration
from understudy.evaluation.sampled import (
    Sampled,
    held_out,
    joined,
    sample_expert,
    sample_policy,
    sampling_seed,
    sequence_kl,
    splits_of,
)  # fmt: skip
from understudy.experts.written import Written, as_rollouts
from understudy.policy import Policy
from understudy.protocols import Expert, Task
from understudy.runs.directory import RunDir
from understudy.terminal import Progress
from understudy.types import Ledger, Prompt, Rollout

LONG = 5.0  # seconds from which an evaluation has a line of its own
SHOWN, SHOWN_LAST = 4, 16  # prompts whose completions go to samples.jsonl, of an evaluation and of the last


class Evaluator:
    """Held-out evaluations of one run. The expert is sampled once per split and kept."""

    def __init__(
        self,
        config: Resolved,
        task: Task,
        student: Policy,
        expert: Callable[[], Expert] | None,
        run: RunDir,
        ledger: Ledger,
        show: Progress,
    ) -> None:
        self.config, self.task, self.student = config, task, student
        self.run, self.ledger, self.show = run, ledger, show
        self._load = expert if config.eval_expert else None
        self.room = config.max_new_tokens or task.max_new_tokens
        self.seed = sampling_seed(config.seed, config.eval_seed)
        self.latest = ""
        """The accuracy that was measured last, for the progress."""
        self._experts: dict[tuple[str, int, int], Sampled | None] = {}
        self._losses: dict[str, float] = {}

    @cached_property
    def expert(self) -> Expert | None:
        return self._load() if self._load else None

    def during(self, step: int) -> None:
        """One eval line for each split of eval_during."""
        c = self.config
        for split in filter(None, c.eval_during.split(",")):
            self._evaluate(step, split, c.eval_prompts, c.eval_samples, SHOWN)

    def final(self, step: int) -> dict[str, Any]:
        """The last evaluation, on every split: what final.json holds."""
        c = self.config
        splits: dict[str, Any] = {}
        experts: dict[str, Any] = {}
        divergences: dict[str, Any] = {}
        names = splits_of(c.eval_splits, self.task)
        for i, split in enumerate(names):
            self.show("final evaluation", i, len(names), split)
            student, table = self._evaluate(step, split, c.final_prompts, c.final_samples, SHOWN_LAST)
            splits[split] = student.outcome() | ({"loss": self._losses[split]} if split in self._losses else {})
            expert = self._expert_on(split, c.final_prompts, c.final_samples)
            if expert is not None:
                experts[split] = expert.outcome()
            if split == "test":
                divergences = {name: {"per_prompt": values} for name, values in table.items()}
        self.show("final evaluation", len(names), len(names), "")
        return {"splits": splits, "expert": experts or None, "divergences": divergences, "step": step}

    def _evaluate(self, step: int, split: str, n: int, k: int, shown: int) -> tuple[Sampled, dict[str, list[float]]]:
        """One eval line: (the student's completions, its divergences from the expert per prompt)."""
        began = time.perf_counter()
        prompts = held_out(self.task, self.student, split, n, self.config.eval_seed, self.room)
        with self._shown(n, split, "sampled and greedy completions"):
            student = self._sample(self.student, prompts, k)
        with self._shown(n, split, "the expert's completions"):
            expert = self._expert_on(split, n, k)
        with self._shown(n, split, "divergences"):
            table = self._divergences(student, expert)
        if not student.graded and (loss := self._loss(prompts)) is not None:
            self._losses[split] = loss
        self._keep_samples(step, split, student, expert, shown)
        self.ledger.eval_seconds += time.perf_counter() - began
        record = {"kind": "eval", "step": step, "split": split} | student.summary(self.task.keywords)
        for name in ("kl_student_expert", "kl_expert_student"):
            record[name] = sum(table[name]) / len(table[name]) if name in table else None
        if not student.graded:
            record["held_out_loss"] = self._losses.get(split)
        record["expert"] = expert.summary(self.task.keywords) if expert is not None else None
        record |= self._by_expert(student, expert, table)
        self.run.log(record | {"ledger": self.ledger.as_dict()})
        names = {"sampled": "accuracy", "held_out_loss": "held-out loss", "kl_student_expert": "KL(student, expert)"}
        name = next((name for name in names if record.get(name) is not None), "")
        if name:
            self.latest = f"{names[name]} {record[name]:.2f} (update {step}, {split})"
        if (seconds := time.perf_counter() - began) >= LONG:
            self.show("evaluation", n, n, f"{self.latest}, {duration(seconds)}")
        return student, table

    def _shown(self, n: int, split: str, what: str) -> AbstractContextManager[None]:
        """Inside it, the rows that are done are shown; before the first one, of how many prompts."""
        self.show("evaluation", 0, n, f"{split}, {what}")

        def listener(done: int, total: int, left: float) -> None:
            self.show("evaluation", done, total, f"{split}, {what}, at most {duration(left)} left")

        return running.reporting(listener)

    def _expert_on(self, split: str, n: int, k: int) -> Sampled | None:
        if self.expert is None or "sample" not in self.expert.capabilities or not self.expert.held_out:
            return None
        name = (split, n, k)
        if name not in self._experts:
            prompts = held_out(self.task, self.student, split, n, self.config.eval_seed, self.room)
            parts = self.expert.assigned(prompts)
            sampled = [(self._of_expert(one, [prompts[i] for i in which], k), which) for _, one, which in parts]
            self._experts[name] = joined(sampled, prompts)
        return self._experts[name]

    def _of_expert(self, expert: Expert, prompts: list[Prompt], k: int) -> Sampled:
        if expert.policy is not None and not expert.own_prompts:  # sampled as the student is
            return self._sample(expert.policy, prompts, k, "expert")
        return sample_expert(expert, self.task, prompts, k, self.seed, self.room)

    def _by_expert(self, student: Sampled, expert: Sampled | None, table: dict[str, list[float]]) -> dict[str, Any]:
        """Of several experts, each one's prompts alone: their number, and the means of what is measured on all."""
        if self.expert is None or not self.expert.several:
            return {}
        out = {}
        for name, _, which in self.expert.assigned(student.prompts):
            accuracy = expert.accuracy(which) if expert is not None else None
            means = {what: sum(values[i] for i in which) / len(which) for what, values in table.items()}
            out[name] = {"n": len(which), "sampled": student.accuracy(which), "expert": accuracy, **means}
        return {"by_expert": out}

    def _sample(self, policy: Policy, prompts: list[Prompt], k: int, actor: str = "student") -> Sampled:
        c = self.config
        return sample_policy(
            policy, self.task, prompts, k, self.seed, self.room, True, c.eval_temperature, c.eval_top_p, actor
        )

    def _divergences(self, student: Sampled, expert: Sampled | None) -> dict[str, list[float]]:
        """Both KLs in nats per sequence, per prompt; one sample per prompt is enough for a running estimate."""
        if not self.config.eval_divergences or self.expert is None or "distribution" not in self.expert.capabilities:
            return {}
        first = [r for r in student.rollouts if r.sample == 0]
        out = {"kl_student_expert": self._divergence(self.student, self.expert, first)}
        if expert is not None:
            first = [r for r in expert.rollouts if r.sample == 0]
            out["kl_expert_student"] = self._divergence(self.expert, self.student, first)
        return out

    def _loss(self, prompts: list[Prompt]) -> float | None:
        """Nats per token of held-out completions, one per prompt that has one: what is measured without a verifier."""
        written = [Written(p, 0, text) for p in prompts if (text := self.task.demonstration(p))]
        if not written:
            return None
        known = as_rollouts(self.student, written, self.room)
        scores = distributed.spread(lambda part: [-float(x.double().sum()) for x in self.student.score(part)], known)
        return sum(scores) / sum(len(r.ids) for r in known)

    def _divergence(self, first: Any, second: Any, rollouts: list[Rollout]) -> list[float]:
        return distributed.spread(lambda part: sequence_kl(first, second, part), rollouts)

    def _keep_samples(self, step: int, split: str, student: Sampled, expert: Sampled | None, n: int) -> None:
        """The first completions of the first n prompts; the expert's, which stay, at the beginning and at the end."""
        keys = {p.key for p in student.prompts[:n]}
        actors = (student, expert) if step == 0 or n > SHOWN else (student,)
        rollouts = [r for sampled in actors if sampled for r in sampled.rollouts]
        self.run.samples(self._record(step, split, r) for r in rollouts if r.sample == 0 and r.prompt.key in keys)

    def _record(self, step: int, split: str, r: Rollout) -> dict[str, Any]:
        read = self.student.tokenizer.decode(list(r.prompt.ids), skip_special_tokens=False)
        return {
            "step": step, "split": split, "prompt": r.prompt.text, "rendered": read, "completion": r.text,
            "reward": r.reward, "actor": r.actor, "key": r.prompt.key, "sample": r.sample, "ended": r.ended,
            "tokens": len(r.ids),
        }  # fmt: skip
