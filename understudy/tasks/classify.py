"""Classification of a bit string in one token: horizon 1, where offline and online differ only in the loss.

Prompt `1011010010`, completion one letter: `a` for the first class, `b` for the second, ... No end token follows.
The class depends on the first `relevant` bits alone:
    count      the number of ones, modulo `classes` (two classes: parity)
    majority   whether more than half are ones (two classes)
    lookup     a random table, one entry for each pattern
Out of distribution the string is longer; its further bits mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert
from understudy.randomness import seed_from
from understudy.specs import Spec, check, option, require
from understudy.tasks.generated import GeneratedTask, is_held_out, place
from understudy.types import Prompt


@dataclass(frozen=True)
class ClassifyConfig:
    rule: str = option("lookup", choices=("count", "majority", "lookup"))
    """count, majority or lookup."""
    bits: int = option(10, within="[6, 14]")
    """Bits of a prompt."""
    relevant: int = 4
    """The class depends on this many first bits."""
    classes: int = option(4, within="[2, 26]")
    """Labels a, b, c, ..."""
    ood_bits: int = 0
    """Out of distribution: bits of a prompt there. 0 = one more."""
    table_seed: int = 0
    """Names the table of the rule lookup."""
    test_share: float = option(0.25, within="(0, 1)")
    """Share of all strings that only test and ood prompts may use."""
    split_seed: int = 0
    """Salt of the hash of the string that decides which those are."""

    def __post_init__(self) -> None:
        check(self, "task")
        require(
            self, "task",
            ("relevant", 1 <= self.relevant <= self.bits, "must be 1..bits"),
            ("classes", self.rule != "majority" or self.classes == 2, "majority has two classes"),
            ("ood_bits", self.ood_bits == 0 or self.bits < self.ood_bits <= 16, "must exceed bits, at most 16"),
        )  # fmt: skip


class ClassifyTask(GeneratedTask):
    name = "classify"
    max_new_tokens = 1
    Config = ClassifyConfig
    config: ClassifyConfig

    def __init__(self, config: ClassifyConfig | None = None) -> None:
        super().__init__(config)
        self.labels = tuple("abcdefghijklmnopqrstuvwxyz"[: self.config.classes])
        self.keywords: tuple[str, ...] = self.labels[:4]

    @cached_property
    def _pools(self) -> dict[str, list[str]]:
        c = self.config
        out: dict[str, list[str]] = {"train": [], "test": [], "ood": []}
        for bits, inside, outside in ((c.bits, "train", "test"), (c.ood_bits or c.bits + 1, "", "ood")):
            for i in range(2**bits):
                text = f"{i:0{bits}b}"
                name = outside if is_held_out(text, c.split_seed, c.test_share) else inside
                if name:
                    out[name].append(text)
        for name, pool in out.items():
            if not pool:
                raise UserError("task.test_share", c.test_share, f"leaves no string for {name}: nearer 0.25")
        return out

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """train: independent draws. test, ood: passes over all strings, each in a new random order."""
        self.check_split(split)
        pool, out = self._pools[split], []
        for index in range(start, start + n):
            if split == "train":
                at = seed_from("classify", split, seed, index) % len(pool)
            else:
                at = place(len(pool), index, self.name, "order", split, seed)
            out.append(Prompt(f"classify {pool[at]}", f"{pool[at]}\n", {"bits": pool[at]}))
        return out

    def label(self, prompt: Prompt) -> int:
        """The class of a prompt, 0, 1, ..."""
        c = self.config
        seen = prompt.data["bits"][: c.relevant]
        if c.rule == "lookup":
            return seed_from("table", c.table_seed, seen) % c.classes
        ones = seen.count("1")
        return int(2 * ones > c.relevant) if c.rule == "majority" else ones % c.classes

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return 1.0 if text == self.labels[self.label(prompt)] else 0.0

    def gold(self, prompt: Prompt) -> str:
        return self.labels[self.label(prompt)]

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`labeller`, `secret` (experts/programs/labeller.py)."""
        # imported here: tasks do without torch
        from understudy.experts.programs.labeller import LabellerExpert

        return LabellerExpert.from_spec(spec, tokenizer, self.labels, self.label)
