"""A single-turn environment of the package verifiers as a task: its prompts, its rubric as the reward."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.specs import Spec, build, check, option
from understudy.tasks import workers
from understudy.tasks.python import RowsTask
from understudy.types import Prompt

LOADING = 300.0  # seconds that reading its data may take


@dataclass(frozen=True)
class EnvConfig:
    environment: str = ""
    """Name of the installed environment: env:NAME. Other options than these go to its load_environment."""
    test_share: float = option(0.1, within="(0, 1)")
    """Share of the problems held out, by a hash of each, where it has no evaluation set."""
    time_limit: float = option(30.0, least=0.1)
    """Seconds that grading one completion may take; then its reward is the least."""
    workers: int = option(1, within="[1, 64]")
    """Processes that grade."""
    max_new_tokens: int = option(512, least=1)
    """Room for a completion."""

    def __post_init__(self) -> None:
        check(self, "task")


OWN = tuple(EnvConfig.__dataclass_fields__)


class EnvTask(RowsTask):
    """Rewards are the rubric's weighted sum, scaled to 0..1 by the sum of its weights."""

    def __init__(self, config: EnvConfig, args: Mapping[str, str] | None = None) -> None:
        """args: for load_environment; what reads as JSON is given as that."""
        if not config.environment:
            raise UserError("task", "env", "names no environment: env:NAME, of an installed package")
        self.env_config, self._args = config, json.dumps({k: _read(v) for k, v in (args or {}).items()})
        (loaded,) = self._processes.run([{"op": "load"}], LOADING)
        if loaded is None:
            raise UserError("task", f"env:{config.environment}", f"did not give its data within {LOADING:g} seconds")
        self.low, self.high = loaded["range"]
        rows = {s: [row | {"at": [s, i]} for i, row in enumerate(found)] for s, found in loaded["splits"].items()}
        self._digest = hashlib.blake2b(json.dumps(loaded, sort_keys=True).encode(), digest_size=8).hexdigest()
        if not any(rows.values()):
            raise UserError("task", f"env:{config.environment}", "has no data")
        same = rows["test"] and [r["prompt"] for r in rows["test"]] == [r["prompt"] for r in rows["train"]]
        held = None if same or not rows["train"] else rows["test"] or None
        super().__init__(
            config.environment.replace("-", "_").replace("/", "_"), rows["train"] or rows["test"], None,
            config.max_new_tokens, config.test_share, held,
        )  # fmt: skip
        self.name, self.verified = f"env:{config.environment}", True

    @classmethod
    def from_spec(cls, spec: Spec) -> EnvTask:
        own = {k: v for k, v in spec.args.items() if k in OWN}
        return cls(build(EnvConfig, own, "task"), {k: v for k, v in spec.args.items() if k not in own})

    def about(self) -> str:
        sizes = ", ".join(f"{self.size(split):,} {split}" for split in self.splits)
        scaled = "" if (self.low, self.high) == (0, 1) else f"; rewards scaled from {self.low:g}..{self.high:g} to 0..1"
        return f"{self.name}: {sizes}{scaled}"

    def digest(self) -> str:
        return self._digest

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.verify_many([(prompt, text, ended)])[0]

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """Scaled rewards. UserError: the rubric raises, or a reward is outside the sum of its weights."""
        requests = []
        for prompt, text, _ in completions:
            split, at = prompt.data["at"]
            requests.append({"op": "score", "split": split, "at": at, "completion": prompt.prefill + text})
        replies = self._processes.run(requests, self.env_config.time_limit)
        return [self._scaled(reply, p, text) for reply, (p, text, _) in zip(replies, completions)]

    def _scaled(self, reply: dict[str, Any] | None, prompt: Prompt, text: str) -> float:
        if reply is None:
            return 0.0
        where = f"on prompt {prompt.text[:60]!r}, completion {text[:60]!r}"
        if "fault" in reply:
            raise UserError("task", self.name, f"its rubric raised {reply['fault']}, {where}")
        reward = (reply["reward"] - self.low) / (self.high - self.low)
        if not -1e-9 <= reward <= 1 + 1e-9:
            hint = f"its rubric gave {reply['reward']:g}, outside {self.low:g}..{self.high:g}, {where}"
            raise UserError("task", self.name, f"{hint}: each of its functions must stay in 0..1")
        return min(1.0, max(0.0, reward))

    def check(self, n: int = 2) -> None:
        """UserError unless the rubric grades an empty completion, and the answer, of the first prompts."""
        tried = self.prompts("train", min(n, self.size("train") or n), 0)
        self.verify_many([(p, text, True) for p in tried for text in ("", str(p.data["answer"] or ""))])

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        """Its answers are no completions: only its rubric knows how they must be written."""
        return ()

    @property
    def _processes(self) -> workers.Pool:
        c = self.env_config

        def refused(why: str) -> UserError:
            missing = ": install the package of the environment" if "ModuleNotFoundError" in why else ""
            return UserError("task", f"env:{c.environment}", f"cannot be loaded ({why}){missing}")

        def make() -> workers.Pool:
            args = (c.environment, self._args)
            return workers.Pool("understudy.tasks.environments.child", args, refused, c.workers, LOADING)

        return workers.shared(("env", c.environment, self._args, c.workers), make)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
