"""A path through a star: the edges are listed, then a start and a goal; the completion is the way, node by node.

Prompt `ca,ab,cd,de/cb`: two arms of two edges from `c`; the goal `b` is the end of one. Completion `cab`. The first
step must be chosen before anything of the arm is written, so it has to be looked up backwards from the goal; every
later step follows from the one before. A student that is trained on the next token learns the easy steps and guesses
the first one (Bachmann and Nagarajan, arXiv 2403.06963). A walk may come back: `cdedcab` is right too, because each
step is along an edge and it ends at the goal. So a student can also search in its own text, if something teaches it
to turn round.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from understudy.specs import check, option, require
from understudy.tasks.generated import DrawnConfig, DrawnTask
from understudy.tasks.pens import Ahead
from understudy.tasks.search_format import STYLE_TOKENS, unstyled
from understudy.types import Prompt

NODES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class PathConfig(DrawnConfig):
    arms: int = option(3, within="[2, 8]")
    """Arms of the star; guessing finds the right one this often: once in so many."""
    reach: int = option(3, within="[1, 12]")
    """Edges of each arm."""
    ood_reach: int = 0
    """Out of distribution: edges of each arm there. 0 = one more."""
    letters: int = 0
    """Nodes are named by the first so many letters. 0 = as few as the larger star needs; more are harder to look up."""
    oriented: bool = True
    """Edges are written away from the start, `ab` for a step from a to b; else in either direction."""

    def __post_init__(self) -> None:
        check(self, "task")
        most = (len(NODES) - 1) // self.arms
        require(
            self, "task",
            ("reach", self.reach < most, f"needs {self.arms} * (reach + 1) + 1 nodes, and there are {len(NODES)}"),
            ("ood_reach", self.ood_reach == 0 or self.reach < self.ood_reach <= most,
             f"must exceed reach, at most {most}"),
            ("letters", self.letters == 0 or self.needed <= self.letters <= len(NODES),
             f"must be {self.needed}..{len(NODES)}"),
        )  # fmt: skip

    @property
    def needed(self) -> int:
        """Nodes of the larger star."""
        return 1 + self.arms * (self.ood_reach or self.reach + 1)


class PathTask(DrawnTask):
    name = "path"
    Config = PathConfig
    config: PathConfig
    keywords: tuple[str, ...] = ("~",)
    realizable = False
    mechanism = "hidden search: it knows the way before its first step, which the student must look up from the goal"

    def __init__(self, config: PathConfig | None = None) -> None:
        super().__init__(config)
        self.ood_reach = self.config.ood_reach or self.config.reach + 1
        self.max_new_tokens: int = STYLE_TOKENS + self._longest(self.ood_reach) + 1

    def _longest(self, reach: int) -> int:
        """Symbols of the walk that goes to the end of every wrong arm first."""
        return 1 + reach + 2 * reach * (self.config.arms - 1)

    def draw(self, dice: Random, ood: bool) -> dict[str, Any]:
        c, reach = self.config, self.ood_reach if ood else self.config.reach
        names = "".join(dice.sample(NODES[: c.letters or c.needed], 1 + c.arms * reach))
        start, arms = names[0], [names[1 + i * reach : 1 + (i + 1) * reach] for i in range(c.arms)]
        edges = [a + b for arm in arms for a, b in pairwise(start + arm)]
        dice.shuffle(edges)
        if not c.oriented:
            edges = [edge[::-1] if dice.random() < 0.5 else edge for edge in edges]
        return {"edges": tuple(edges), "way": start + arms[0]}

    def problem(self, data: dict[str, Any]) -> str:
        return ",".join(sorted("".join(sorted(edge)) for edge in data["edges"])) + "/" + data["way"]

    def text(self, data: dict[str, Any]) -> str:
        return ",".join(data["edges"]) + f"/{data['way'][0]}{data['way'][-1]}"

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        edges, way = prompt.data["edges"], prompt.data["way"]
        if not ended or len(text) > STYLE_TOKENS + self._longest(len(way) - 1):
            return 0.0
        walk = unstyled(text)
        along = all(a + b in edges or b + a in edges for a, b in pairwise(walk))
        return 1.0 if along and walk[:1] == way[0] and walk[-1:] == way[-1] else 0.0

    def pen(self, prompt: Prompt) -> WalkingPen:
        return WalkingPen(prompt.data["edges"], prompt.data["way"])


class WalkingPen:
    """A walk on a tree. The mistake of a wrong branch is taken back by walking back.

    A step that is not along an edge cannot be taken back; the walk goes on from the node that it reached.
    """

    choices = 1

    def __init__(self, edges: tuple[str, ...], way: str) -> None:
        self.way, self.made = way, 0
        self.beside: dict[str, list[str]] = {}
        for edge in edges:
            a, b = edge[0], edge[1]
            self.beside.setdefault(a, []).append(b)
            self.beside.setdefault(b, []).append(a)
        self.toward: dict[str, str] = {}  # node -> the next one on the way to the goal
        reached = [way[-1]]
        for node in reached:
            for other in self.beside[node]:
                if other != way[-1] and other not in self.toward:
                    self.toward[other] = node
                    reached.append(other)
        self.at = self.before = ""

    def ahead(self) -> Ahead:
        if not self.at:
            return self.way[0], "", ""
        toward = self.toward.get(self.at, "")
        if not toward:
            return "", "", ""
        onward = sorted(node for node in self.beside[self.at] if node != self.before)
        if toward == self.before:  # on a wrong branch: on to its end, or back
            return (onward[0] if onward else ""), "", toward
        after = onward.index(toward) + 1
        return toward, "".join(onward[after:] + onward[: after - 1]), ""  # alphabetical, from the right one on

    def push(self, symbol: str) -> None:
        if symbol not in self.beside:
            return
        self.made += bool(self.ahead()[1])
        self.before = self.at if symbol in self.beside.get(self.at, ()) else ""
        self.at = symbol
