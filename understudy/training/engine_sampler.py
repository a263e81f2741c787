"""The student's completions drawn by another engine, behind the same call as the local sampler.

Before each draw the engine gets the student's current weights. Nothing is assumed: a refresh that did not arrive is
detected by scoring the last completions again, and the recorded log-probs of every draw are compared with the
student's own.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.server.check import preflight
from understudy.experts.server.expert import TokenExpert
from understudy.policy import Policy
from understudy.types import Prompt, Rollout

PROBES = 4  # completions of each draw that the student scores too


class EngineSampler(ABC):
    """One student, and one engine that draws for it."""

    def __init__(self, engine: TokenExpert, student: Policy, prompts: list[Prompt], kind: str) -> None:
        """prompts: PROMPTS of the task, on which the engine is checked. kind: for the provenance."""
        self.engine, self.student, self.prompts = engine, student, prompts
        self.facts: dict[str, Any] = dict(engine.provenance) | {"kind": kind}
        self.noise: float | None = None  # nats per token, measured at the first refresh
        self._probes: list[Rollout] = []
        self._before: list[Tensor] = []

    @abstractmethod
    def send_weights(self) -> None:
        """Give the engine the student's weights, and let it forget what it has computed with the old ones."""

    @abstractmethod
    def not_arrived(self) -> str:
        """The hint where the engine has kept its old weights."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

    def rest(self) -> None:  # noqa: B027
        """Called when a draw is done. Here: nothing to do."""

    def sample(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, actor: str
    ) -> list[Rollout]:
        """As policy.sampling.draw, from the student's weights of this moment."""
        self.refresh()
        drawn = self.engine.sample(prompts, samples, seed, max_new_tokens)
        self.rest()
        out = [dataclasses.replace(r, actor=actor) for r in drawn]
        self._probes = out[:PROBES]
        self._before = [x.cpu() for x in self.student.score(self._probes)]
        gap = _mean([own - torch.tensor(r.behavior_logp) for own, r in zip(self._before, self._probes)])
        if not gap <= self.engine.noise:
            self._differ("its log-probs of the completions it has drawn", gap)
        return out

    def refresh(self) -> None:
        """Send the weights and see that they have arrived."""
        self.send_weights()
        if self.noise is None:
            measured = preflight(self.engine, self.prompts, self.student)
            self.facts["preflight"] = measured
            self.noise = max(measured["noise"]["again_mean"], measured["noise"]["local_mean"])
        elif self._probes:
            self._check_arrived()

    def _check_arrived(self) -> None:
        """The engine must score the last completions as the new weights do, not as the old ones did."""
        now = [x.cpu() for x in self.student.score(self._probes)]
        served = self.engine.score(self._probes)
        moved = _mean([a - b for a, b in zip(now, self._before)])
        off = _mean([a - b for a, b in zip(now, served)])
        if not off <= self.engine.noise:
            self._differ("after it was given new weights, its scores", off)
        if moved > 4 * max(self.noise or 0.0, 1e-6) and off > 0.5 * moved:
            hint = f"it still scores like the weights before the last update (off by {off:.2g} of {moved:.2g} nats): "
            raise UserError("sampler", self.engine.where, hint + self.not_arrived())

    def _differ(self, what: str, gap: float) -> None:
        hint = (
            f"{what} differ from the student's by {gap:.4f} nats per token, more than {self.engine.noise:g}: other "
            f"weights, precision or sampling; correct the {self.engine.kind}, or allow it with {self.engine.allow}"
        )
        raise UserError("sampler", self.engine.where, hint)


def _mean(differences: Sequence[Tensor]) -> float:
    return float(torch.cat(list(differences)).abs().mean())
