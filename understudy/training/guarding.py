"""The guard at work in a training: the reference look, the checkpoints to keep, the confirmation, the restored model.

A guarded phase ends with its start or with a checkpoint that a test has confirmed. Candidate and start complete the
same fresh prompts, of which nothing was known when the candidate was chosen; the differences of their rewards are d_i:
    P(accept | E d <= -margin) <= error    (evaluation.sequential.PairedTest),
so P(the final model is worse than the start by more than guard_margin) <= guard_error, on the training prompts' own
distribution. What is not confirmed within the limit of prompts is given up for the start, also where it is as good.

Of a small data set some rows are held out (training.held) and completed again and again; then E d is the mean over
these rows. The test looks after whole passes only: with independent completions and row means m_i of mean m,
    E prod_i (1 + b (d_i + margin)) = prod_i (1 + b (m_i + margin)) <= (1 + b (m + margin))^n    (log is concave),
which is at most 1 if m <= -margin, so that the same bound holds.

Everything is a function of the configuration, the weights and the checkpoints' state, so a resume repeats it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from understudy import distributed
from understudy.config import Resolved
from understudy.evaluation.sequential import PairedTest
from understudy.randomness import seed_from
from understudy.runs.directory import RunDir
from understudy.training.acting import Actor
from understudy.training.guard import CONFIRM, Guard, Rules, confirmation_prompts, reference_prompts
from understudy.training.held import LEAST_FREE, held_rows, off, used_rows
from understudy.training.monitor import Seen, seen
from understudy.training.state import load_weights
from understudy.types import Ledger, Prompt, Rollout

BATCH = 128  # prompts of the first batch of a confirmation; each further one doubles the number


@dataclass
class Guarding:
    """The guard of one training, which may have none. `spend`: counts what its own completions cost."""

    config: Resolved
    actor: Actor
    run: RunDir
    ledger: Ledger
    spend: Callable[[float], None]
    state: dict[str, Any] | None = None
    """Of a checkpoint."""
    guard: Guard | None = field(init=False, default=None)
    outcome: dict[str, Any] | None = field(init=False, default=None)
    """What final.json says; None: not an on-policy phase."""

    def __post_init__(self) -> None:
        c, why = self.config, off(self.config)
        if why:
            self.outcome = {"state": "off", "reason": why}
        if why is None:
            rules = Rules(c.updates, c.guard_margin, c.guard_error, c.guard_gain, c.guard_trial, c.guard_reach)
            self.guard = Guard(rules, self.state)

    @property
    def reserve(self) -> float:
        """Share of the budget that the confirmation may take; without a verifier there is none."""
        c = self.config
        return c.guard_reserve if c.budget and self.guard is not None and self.actor.task.verified else 0.0

    @property
    def stopped(self) -> bool:
        return self.guard is not None and self.guard.stop is not None

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint's state."""
        return {"guard": self.guard.as_dict()} if self.guard is not None else {}

    # ------------------------------------------------------------ before and while it runs

    def begin(self, step: int, save: Callable[[int], None]) -> None:
        """The reference look and the start's checkpoint, before update 0."""
        if self.guard is None:
            return
        self.run.protected = self.guard.kept  # the start's checkpoint stays, however few are kept
        if step or self.state is not None:
            return
        task = self.actor.task
        prompts = self._fresh(0, self._reference_size) if task.verified else []
        if prompts:
            self.guard.reference = seen(self._complete(prompts), True)
            self._log(0, "reference", self._reference())
        save(0)

    def checkpoint(self, step: int) -> None:
        """A checkpoint of `step` is about to be written."""
        if self.guard is not None:
            self.guard.checkpoint(step)
            self.run.protected = self.guard.kept

    def watch(self, step: int, now: Seen | None, metrics: dict[str, Any], progress: float) -> None:
        """What update `step` (from 1) has shown; progress: share of the phase that is over."""
        if self.guard is None:
            return
        c = self.config
        is_kl = (c.target, c.weight, c.divergence) == ("distribution", "one", "kl_student_expert")
        kl = metrics["loss"] if is_kl else None
        stop = self.guard.observe(step, now, kl, metrics["entropy"], progress)
        if stop is not None:
            self._log(step, stop.kind, dataclasses.asdict(stop))

    # ------------------------------------------------------------ at the end

    def conclude(self, end: int) -> dict[str, Any] | None:
        """Confirm and restore: the student has the weights to keep. Returns what final.json holds under "guard"."""
        guard = self.guard
        if guard is None:
            return self.outcome
        stop, candidate = guard.stop, guard.candidate(end)
        kept, test = candidate, None
        self._loaded = end
        prompts = self.actor.task.verified and guard.reference is not None
        if candidate and prompts:
            test = self._confirm(candidate, end)
            kept = candidate if test.verdict == "accept" else 0
        self._load(kept)
        state = "kept" if kept == end else "restored"
        confirmation = None
        if test is not None:
            confirmation = {
                "candidate": candidate, "verdict": test.verdict or "open", "prompts": test.n,
                "difference": test.mean, "probability": self.config.guard_error,
            }  # fmt: skip
        self.outcome = {
            "state": state, "step": kept, "stopped": dataclasses.asdict(stop) if stop else None,
            "reason": self._sentence(kept, end, test), "reference": self._reference(), "confirmation": confirmation,
            "margin": self.config.guard_margin, "error": self.config.guard_error,
        }  # fmt: skip
        self._log(end, "conclusion", self.outcome)
        return self.outcome

    def _confirm(self, candidate: int, end: int) -> PairedTest:
        """Candidate and start on the same fresh prompts, until the test decides or a limit is reached: that of the
        prompts, or the end of the budget where a part of it is reserved."""
        c = self.config
        test, at, size = PairedTest(c.guard_margin, c.guard_error), self._reference_size, BATCH
        last = at + self._passes(confirmation_prompts(end, c.prompts_per_update * c.samples_per_prompt))
        while at < last and not test.verdict:
            n = min(self._passes(size), last - at)
            if n > self._payable():
                n = self._payable() // (self.held or 1) * (self.held or 1)
            prompts = self._fresh(at, n)
            if not prompts:
                break
            rewards = {}
            for step in sorted((0, candidate), key=lambda s: s != self._loaded):
                self._load(step)
                rewards[step] = [float(r.reward or 0.0) for r in self._complete(prompts)]
            test.add([y - x for x, y in zip(rewards[0], rewards[candidate])])
            at, size = at + len(prompts), 2 * size
        return test

    def _payable(self) -> int:
        """For how many prompts of two completions each the rest of the budget is expected to pay."""
        guard, c = self.guard, self.config
        assert guard is not None
        if not self.reserve or not guard.price:
            return CONFIRM[1]
        left = c.budget - float(distributed.agreed(getattr(self.ledger, c.budget_axis)))
        return max(0, int(left / (2 * guard.price)))

    _loaded: int = field(init=False, default=-1)

    @cached_property
    def held(self) -> int:
        """Rows of a small data set that are not trained on."""
        return held_rows(self.config, self.actor.task)

    def _passes(self, n: int) -> int:
        """At least n prompts, in whole passes over the rows held out."""
        return -(-n // self.held) * self.held if self.held else n

    @property
    def _reference_size(self) -> int:
        completions = self.config.prompts_per_update * self.config.samples_per_prompt
        return self._passes(reference_prompts(self.config.updates, completions))

    def _load(self, step: int) -> None:
        """The weights of a checkpoint into the student."""
        if step != self._loaded:
            load_weights(self.run, step, self.actor.student)
            self._loaded = step

    def _sentence(self, kept: int, end: int, test: PairedTest | None) -> str:
        guard, c = self.guard, self.config
        assert guard is not None
        stop = guard.stop
        first = f"stopped at update {stop.step}: {stop.reason}; " if stop else ""
        if test is None:
            what = "the start was restored" if not kept else f"the model of update {kept} was kept"
            return f"{first}{what}, without a confirmation on fresh prompts"
        gap, n = f"{100 * test.mean:+.1f} points against the start", f"on {test.n} fresh prompts"
        if self.held:
            n = f"in {test.n // self.held} passes over {self.held} rows that were not trained on"
        if kept:
            worse = f"worse by more than {100 * c.guard_margin:g} points with probability {c.guard_error:g} at most"
            return f"{first}the model of update {kept} was kept: {gap} {n}, {worse}"
        why = "is worse" if test.verdict == "reject" else "was not shown to be as good"
        return f"{first}the start was restored: the trained model {why} ({gap} {n})"

    # ------------------------------------------------------------ completions of its own

    def _fresh(self, start: int, n: int) -> list[Prompt]:
        """Items of a stream of training prompts that this training does not use; fewer or none where it uses all.

        An endless task has a stream of another seed. Of a data set, the rows behind those that are trained on; where
        these are too few, passes over the rows held out.
        """
        c, task, student = self.config, self.actor.task, self.actor.student
        size = task.size("train")
        if size is None:
            found = task.prompts("train", n, seed_from("guard", c.seed) % 2**31, start)
        elif self.held:
            rows = task.prompts("train", self.held, c.seed, size - self.held)
            found = [rows[i % self.held] for i in range(start, start + n)]
        else:
            used = used_rows(c)
            free = size - used
            if free < LEAST_FREE:
                return []
            found = task.prompts("train", max(0, min(n, free - start)), c.seed, used + start)
        return student.encode([dataclasses.replace(p, key=f"{p.key}@guard-{start + i}") for i, p in enumerate(found)])

    def _complete(self, prompts: Sequence[Prompt]) -> list[Rollout]:
        began, student = time.perf_counter(), self.actor.student
        before = getattr(self.ledger, self.config.budget_axis)
        with student.gathered_weights():
            rollouts = self.actor.own(prompts, "guard")
        self.actor.count(rollouts, self.ledger)
        self.spend(began)
        if self.guard is not None and rollouts and self.reserve:
            taken = getattr(self.ledger, self.config.budget_axis) - before
            self.guard.price = float(distributed.agreed(taken)) / len(rollouts)
        return rollouts

    def _reference(self) -> dict[str, Any] | None:
        start = self.guard.start if self.guard is not None else None
        if start is None:
            return None
        from_look = self.guard is not None and self.guard.reference is not None
        return {"prompts": start.n, "reward": start.mean, "from": "fresh prompts" if from_look else "the first updates"}

    def _log(self, step: int, event: str, facts: dict[str, Any] | None) -> None:
        record = {"kind": "guard", "step": step, "event": event, "facts": facts, "ledger": self.ledger.as_dict()}
        if distributed.is_main():
            self.run.log(record)
