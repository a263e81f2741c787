"""An expert that writes a completion symbol by symbol, may slip where there is a choice, and may take a slip back.

A task's pen (tasks/pens.py) says what comes next after any text, a student's too; here are the probabilities. At each
choice the expert slips with probability 1 - p_right ** (1 / choices), so a completion has no slip with probability
p_right. Where the text has a mistake that can be taken back, it does so with probability `notice`; else it goes on as
if nothing had happened.
    coin    it slips at random, each time anew: a student can copy that
    hash    whether and how it slips is a secret hash of the prompt, which no student can know
`where=first` puts all slips at the first choice: with p_right below one half and `wrong=next`, its likeliest text is
wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from understudy.experts.programs.base import ProgramExpert, preset
from understudy.experts.programs.search_tree import Next
from understudy.randomness import seed_from
from understudy.specs import Spec, check, option
from understudy.types import Prompt


@dataclass(frozen=True)
class WriterConfig:
    p_right: float = option(0.995, within="[0, 1]")
    """Probability that a completion has no slip."""
    notice: float = option(1.0, within="[0, 1]")
    """Probability, at each symbol, that it begins to take back a mistake that stands in the text. Once begun, it
    goes on until the text is right."""
    wrong: str = option("uniform", choices=("uniform", "next"))
    """What a slip writes: uniform (any wrong symbol that could stand there) or next (always the same one)."""
    where: str = option("any", choices=("any", "first"))
    """Where it may slip: any choice, or only the first."""
    noise: str = option("coin", choices=("coin", "hash"))
    """How it slips: coin (at random each time) or hash (a secret function of the prompt)."""
    smoothing: float = option(1e-3, within="[0, 1)")
    """Share of the uniform distribution in every token's. With 0 the expert can only be sampled."""
    style: str = option("none", choices=("none", "hash"))
    """none, or hash: a first line that is a secret hash of the prompt, which the reward ignores."""
    style_length: int = option(4, within="[1, 8]")
    """Letters of the style line, 1 to 8."""
    secret: int = 0
    """Salt of the secret hashes."""
    vocabulary: int = 0
    """Size of the score vectors. 0 = the tokenizer's."""

    def __post_init__(self) -> None:
        check(self, "expert")


PRESETS: dict[str, dict[str, Any]] = {
    "solver": {},
    "careless": {"notice": 0.0},
    "checker": {"p_right": 0.5},
    "half": {"p_right": 0.5, "notice": 0.0},
    "lure": {"p_right": 0.4, "notice": 0.0, "where": "first", "wrong": "next"},
    "secret": {"p_right": 0.7, "notice": 0.0, "noise": "hash"},
    "styled": {"style": "hash"},
    "mediocre": {"p_right": 0.4, "notice": 0.5, "smoothing": 0.0},
}
"""solver almost never slips and takes back a student's mistakes; careless does not; checker often slips and takes it
back, so its samples show how; half leaves its mistakes; lure's likeliest text is wrong; secret slips on prompts that no
student can know; styled is solver behind a secret first line; mediocre makes training traces and gives no scores."""


class Pen(Protocol):
    """See tasks/pens.py."""

    choices: int
    made: int

    def ahead(self) -> tuple[str, str, str]: ...

    def push(self, symbol: str) -> None: ...


class WriterExpert(ProgramExpert):
    """pen(prompt): a new pen. realizable, mechanism: what the task says about an expert that never slips."""

    def __init__(
        self,
        config: WriterConfig,
        tokenizer: Any,
        pen: Callable[[Prompt], Pen],
        realizable: bool | None = None,
        mechanism: str = "",
        name: str = "solver",
    ) -> None:
        super().__init__(tokenizer, name, config.smoothing, config.vocabulary)
        self.config, self.pen = config, pen
        symbols = "~<=,/+-*\n0123456789abcdefghijklmnopqrstuvwxyz"
        self.ids = {symbol: self.single(symbol) for symbol in symbols} | {"": self.end}
        self.symbols = {token: symbol for symbol, token in self.ids.items()}
        known = config.style == "none" and (config.noise == "coin" or config.p_right == 1)
        self.provenance = {
            "kind": "program", "program": "understudy.experts.writer", "config": asdict(config),
            "realizable": realizable if known else False, "mechanism": "; ".join(facts(config, mechanism)),
        }  # fmt: skip

    @classmethod
    def from_spec(
        cls, spec: Spec, tokenizer: Any, pen: Callable[[Prompt], Pen], realizable: bool | None, mechanism: str
    ) -> WriterExpert:
        """`solver:p_right=0.9` or another name of PRESETS with options. UserError: unknown name or option."""
        return cls(preset(spec, PRESETS, WriterConfig), tokenizer, pen, realizable, mechanism, spec.text)

    def walk(self, prompt: Prompt) -> WriterWalk:
        return WriterWalk(self, prompt)

    def style(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the secret first line; () without style."""
        if self.config.style == "none":
            return ()
        dice, line = seed_from("style", self.config.secret, prompt.text), "~"
        for _ in range(self.config.style_length):
            dice, letter = divmod(dice, 26)
            line += chr(ord("a") + letter)
        return tuple(self.ids[symbol] for symbol in line + "\n")

    def law(self, prompt: Prompt, pen: Pen, tries: int = 0, turning: bool = False) -> dict[str, float]:
        """Symbol -> probability of what comes next; "" is the end.

        tries: symbols taken back so far. turning: whether the last symbol took one back.
        """
        c = self.config
        right, slips, back = pen.ahead()
        out = {right: 1.0}
        if slips and not (c.where == "first" and pen.made):
            p = c.p_right if c.where == "first" else c.p_right ** (1 / pen.choices)
            if c.noise == "hash":
                dice = seed_from("slip", c.secret, prompt.text, pen.made, tries)
                p = float(dice / 2**64 < p)
                slips = slips[dice % len(slips)]
            elif c.wrong == "next":
                slips = slips[0]
            out = {right: p} | dict.fromkeys(slips, (1 - p) / len(slips))
        if back:
            notice = float(c.notice > 0) if turning else c.notice
            out = {symbol: p * (1 - notice) for symbol, p in out.items()} | {back: notice}
        return out


def facts(config: WriterConfig, mechanism: str) -> list[str]:
    """Why it is, or is not, in a student's reach."""
    out = [mechanism, f"a completion has no slip with probability {config.p_right:g}"]
    if config.p_right < 1 and config.noise == "hash":
        out.append("when it slips is a secret hash of the prompt, which no student can know")
    if config.where == "first":
        out.append("it slips at the first choice only")
    if config.notice:
        out.append(f"it takes a mistake back with probability {config.notice:g} at each symbol, a student's too")
    else:
        out.append("it goes on after a mistake as if nothing had happened, so it teaches no recovery")
    if config.style != "none":
        out.append("its first line is a secret hash of the prompt, which no student can know; the reward ignores it")
    return out


class WriterWalk:
    """Where a completion is: in the style line, or at a place of the pen."""

    __slots__ = ("ended", "expert", "pen", "place", "prompt", "style", "tries", "turning")

    def __init__(self, expert: WriterExpert, prompt: Prompt) -> None:
        self.expert, self.prompt = expert, prompt
        self.pen, self.style = expert.pen(prompt), expert.style(prompt)
        self.place = 0  # in the style line
        self.tries = 0
        self.turning = self.ended = False

    def next(self) -> Next:
        if self.ended:
            return (self.expert.end,), (1.0,)
        if self.style:
            token = self.style[self.place] if self.place < len(self.style) else self.style[-1]
            return (token,), (1.0,)
        law, ids = self.expert.law(self.prompt, self.pen, self.tries, self.turning), self.expert.ids
        pairs = sorted((ids[symbol], p) for symbol, p in law.items() if p > 0)
        return tuple(token for token, _ in pairs), tuple(p for _, p in pairs)

    def push(self, token: int) -> None:
        if token == self.expert.end:
            self.ended = True
        elif self.style and (self.place or token == self.style[0]):
            self.place += 1
            if token == self.style[-1]:  # the newline
                self.style = ()
        else:
            self.style = ()  # a style line that was skipped is not repaired
            symbol = self.expert.symbols.get(token, "")
            self.turning = bool(symbol) and symbol == self.pen.ahead()[2]
            self.tries += self.turning
            self.pen.push(symbol)
