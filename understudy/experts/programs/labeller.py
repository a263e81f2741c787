"""An expert that answers in one token: the right label with some probability, else a wrong one.

coin: it errs at random, each time anew, so its distribution is a function of what the student sees.
hash: whether and how it errs is a secret hash of the prompt: it is (nearly) certain each time, and no student can know
when it is wrong. This error is irreducible: the student's best model of the expert is the average over prompts, whose
most likely label can even be a wrong one (`wrong=next`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from understudy.experts.programs.base import ProgramExpert, preset
from understudy.experts.programs.search_tree import Next
from understudy.randomness import seed_from
from understudy.specs import Spec, check, option
from understudy.types import Prompt


@dataclass(frozen=True)
class LabellerConfig:
    p_right: float = option(0.9, within="[0, 1]")
    """Probability that its label is right."""
    noise: str = option("coin", choices=("coin", "hash"))
    """How it errs: coin (at random each time) or hash (a secret function of the prompt)."""
    wrong: str = option("uniform", choices=("uniform", "next"))
    """Which wrong label it gives: uniform (any of them) or next (the one after the right one, cyclically)."""
    smoothing: float = option(1e-3, within="[0, 1)")
    """Share of the uniform distribution in every token's. With 0 the expert can only be sampled."""
    secret: int = 0
    """Salt of the secret hash."""
    vocabulary: int = 0
    """Size of the score vectors. 0 = the tokenizer's."""

    def __post_init__(self) -> None:
        check(self, "expert")


PRESETS: dict[str, dict[str, Any]] = {"labeller": {}, "secret": {"p_right": 0.7, "noise": "hash"}}


class LabellerExpert(ProgramExpert):
    """labels: the texts of all labels, each one token; right: index of a prompt's label."""

    def __init__(
        self,
        config: LabellerConfig,
        tokenizer: Any,
        labels: tuple[str, ...],
        right: Callable[[Prompt], int],
        name: str = "labeller",
    ) -> None:
        super().__init__(tokenizer, name, config.smoothing, config.vocabulary)
        self.config, self.right = config, right
        self.labels = tuple(self.single(text) for text in labels)
        secret = config.noise == "hash"
        errors = (
            "when it is wrong is a secret hash of the prompt, which no student can know"
            if secret else "it errs at random, which a student can copy"
        )  # fmt: skip
        self.provenance = {
            "kind": "program", "program": "understudy.experts.labeller", "config": asdict(config),
            "realizable": False if secret and config.p_right < 1 else None,
            "mechanism": f"its label is right with probability {config.p_right:g}; {errors}",
        }  # fmt: skip

    @classmethod
    def from_spec(
        cls, spec: Spec, tokenizer: Any, labels: tuple[str, ...], right: Callable[[Prompt], int]
    ) -> LabellerExpert:
        """`labeller:p_right=0.8`, `secret:wrong=next`. UserError: unknown name or option."""
        return cls(preset(spec, PRESETS, LabellerConfig), tokenizer, labels, right, spec.text)

    def law(self, prompt: Prompt) -> list[float]:
        """Probability of each label, before smoothing."""
        c, n, right = self.config, len(self.labels), self.right(prompt)
        share = [0.0] * n
        share[right] = c.p_right
        for step in range(1, n):
            share[(right + step) % n] = (1 - c.p_right) * (step == 1 if c.wrong == "next" else 1 / (n - 1))
        if c.noise == "coin":
            return share
        u = seed_from("label", c.secret, prompt.text) / 2**64
        below, chosen = 0.0, right
        for step in range(n):  # in the order: right, next, ...
            below += share[(right + step) % n]
            if u < below:
                chosen = (right + step) % n
                break
        return [float(i == chosen) for i in range(n)]

    def walk(self, prompt: Prompt) -> LabelWalk:
        pairs = sorted((token, p) for token, p in zip(self.labels, self.law(prompt)) if p > 0)
        return LabelWalk((tuple(t for t, _ in pairs), tuple(p for _, p in pairs)), self.end)


class LabelWalk:
    """One label, then the end."""

    __slots__ = ("end", "law", "written")

    def __init__(self, law: Next, end: int) -> None:
        self.law, self.end, self.written = law, end, False

    def next(self) -> Next:
        return ((self.end,), (1.0,)) if self.written else self.law

    def push(self, token: int) -> None:
        self.written = True
