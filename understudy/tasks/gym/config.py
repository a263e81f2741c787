"""The options of a reasoning-gym task that are ours; its data sets add their own."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.specs import check, option, require
from understudy.tasks.text.catalog import BOXED
from understudy.tasks.text.config import Wording

EXTRACTS = {
    "tags": "Give the final answer between <answer> and </answer>.",
    "marked": BOXED,
    "last_line": "Write the final answer alone on the last line.",
    "number": "",
    "whole": "Write the answer and nothing else.",
}
"""How the answer is found in a completion -> the instruction that asks for it so."""


@dataclass(frozen=True)
class GymConfig(Wording):
    dataset: str = ""
    """Name of the data set: rg:NAME. `understudy tasks rg` lists them."""
    level: int | None = option(None)
    """Difficulty of train and test by reasoning-gym's curriculum: everything up to this level. Default: the data set's
    own defaults. Options given by name win."""
    ood_level: int | None = option(None)
    """Difficulty of the split `ood`: this level alone. Also `ood_OPTION=value` for one option. Default: no such
    split."""
    extract: str = option("tags", choices=tuple(EXTRACTS))
    """Where the answer is: tags (the last <answer>...</answer>), marked (the last box, tag, #### or `answer is`),
    last_line, number (the last one), whole (all that is written)."""
    partial: bool = False
    """The reward is reasoning-gym's score, which may lie between 0 and 1. Default: 1 for a full score, else 0."""
    size: int = option(0, least=0)
    """Distinct problems that train passes over. 0 = a new one each time."""
    seed: int = option(0, least=0)
    """Another seed means other problems."""
    test_share: float = option(0.25, within="(0, 1)")
    """Share of all problems that only test and ood may use, by a hash of each."""
    time_limit: float = option(10.0, least=0.1)
    """Seconds that scoring one answer may take; then it is wrong. Making a problem may take a minute."""
    workers: int = option(1, within="[1, 64]")
    """Processes that make problems and score answers."""
    max_new_tokens: int = option(512, least=1)
    """Room for a completion."""

    def __post_init__(self) -> None:
        check(self, "task")
        levels = {name: getattr(self, name) for name in ("level", "ood_level")}
        require(self, "task", *((name, n is None or n >= 0, "must be at least 0") for name, n in levels.items()))
        self.check_wording()

    @property
    def asked(self) -> str:
        """The instruction after each problem."""
        return self.words("instruction", EXTRACTS[self.extract])
