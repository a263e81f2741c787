"""A task from reasoning-gym: its problems, made on demand in a child process, and its own scorer.

train draws a new problem each time, or passes over `size` of them; test and ood are distinct problems of the other
side of a wall made of their texts, so no split shares a problem with another kind.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.specs import Spec, build
from understudy.tasks import workers
from understudy.tasks.generated import place
from understudy.tasks.gym.config import GymConfig
from understudy.tasks.text.answers import cut, final_answer, thought_out
from understudy.tasks.text.prompting import PromptStyle, boxed
from understudy.tasks.text.schemas import Item
from understudy.tasks.text.task import plain_tokenizer
from understudy.types import Prompt

MAKING = 60.0  # seconds that one problem may take
PROBE = 64  # held-out problems drawn to see whether there are few
MANY = 2048  # held-out problems beyond which a split counts as endless
LONGEST = 20_000  # characters of an answer
SOLVED = 1 - 1e-6
REMEMBERED = 50_000  # scores kept
_TAGS = re.compile(r"<answer>(.*?)</answer>", re.S)
OWN = tuple(f.name for f in fields(GymConfig) if f.name != "dataset")


class GymTask(Task):
    def __init__(self, config: GymConfig, options: Mapping[str, str] | None = None) -> None:
        """options: the data set's own, as text; with `ood_` before the name for the split ood alone."""
        require()
        self.config, self.name = config, f"rg:{config.dataset}"
        options = dict(options or {})
        ood = {key[4:]: options.pop(key) for key in list(options) if key.startswith("ood_")}
        wanted = {
            "name": config.dataset, "options": options, "ood": ood, "level": config.level,
            "ood_level": config.ood_level, "seed": config.seed, "test_share": config.test_share, "own": OWN,
        }  # fmt: skip
        self._setup = json.dumps(wanted, sort_keys=True)
        self._facts = self._ask([{"op": "check", "setup": self._setup}])[0]
        self._pools: dict[tuple[str, int], Distinct] = {}
        self._scores: OrderedDict[tuple[str, int, str], float] = OrderedDict()
        self.splits: tuple[str, ...] = ("train", "test", "ood") if "ood" in self._facts["kinds"] else ("train", "test")
        self.stop: tuple[str, ...] = config.stops
        self.thinking: str = config.tag
        self.max_new_tokens = config.max_new_tokens
        self.keywords: tuple[str, ...] = (
            ("<answer>", "wait", "check") if config.extract == "tags" else ("wait", "check")
        )
        self._style = PromptStyle(config.template, config.words("system"), config.asked, config.words("prefill"))

    @classmethod
    def from_spec(cls, spec: Spec) -> GymTask:
        own = {k: v for k, v in spec.args.items() if k in OWN or k == "dataset"}
        return cls(build(GymConfig, own, "task"), {k: v for k, v in spec.args.items() if k not in own})

    def about(self) -> str:
        return f"reasoning-gym {self._facts['version']}, {self._facts['kinds']['train']}"

    def digest(self) -> str:
        """Of the version and the whole configuration: defaults may differ between versions."""
        text = json.dumps([self._facts, self.config.seed, self.config.test_share], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    # -- problems -----------------------------------------------------------------------------------------------

    def size(self, split: str) -> int | None:
        """train: as `size` says. test, ood: counted where there are few."""
        self._check_split(split)
        if split == "train":
            return self.config.size or None
        pool = self._pool(split, 0, PROBE)
        if not pool.repeated:
            return None
        pool = self._pool(split, 0, MANY)
        return len(pool.problems) if pool.ended else None

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """train: independent draws, or passes over `size` distinct problems. test, ood: distinct problems, in an order
        of (split, seed); where there are no more, passes over them, each in a new order."""
        self._check_split(split)
        if split == "train" and not self.config.size:
            drawn = self._draw(split, [f"train|{seed}|{i}" for i in range(start, start + n)])
        else:
            # train's problems are the same ones whatever the run's seed, as those of a data set are
            stream = 0 if split == "train" else seed
            wanted = self.config.size if split == "train" else start + n
            pool = self._pool(split, stream, wanted).problems[:wanted]
            drawn = []
            for i in range(start, start + n):
                again = split == "train" or i >= len(pool)
                drawn.append(pool[place(len(pool), i, self.name, split, seed) if again else i])
        return [self._prompt(split, problem) for problem in drawn]

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            more = ": give ood_level=N, or ood_OPTION=value" if split == "ood" else ""
            raise UserError("split", split, f"{self.name} has {', '.join(self.splits)}{more}")

    def _pool(self, split: str, stream: int, n: int) -> Distinct:
        """At least the first `n` distinct problems of a stream, or all that it has."""
        pool = self._pools.setdefault((split, stream), Distinct())
        while len(pool.problems) < n and not pool.ended:
            batch = range(pool.drawn, pool.drawn + max(8, min(64, n - len(pool.problems))))
            pool.add(self._draw(split, [f"{split}|{stream}|{i}" for i in batch]))
        return pool

    def _draw(self, split: str, names: Sequence[str]) -> list[dict[str, Any]]:
        common = {"op": "draw", "setup": self._setup, "kind": _kind(split), "held_out": split != "train"}
        return self._ask([common | {"name": name} for name in names])

    def _ask(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The child's answers. UserError: it refuses, or takes too long."""
        answers = processes(self.config.workers).run(requests)
        for answer in answers:
            if answer is None:
                hint = f"takes more than {MAKING:g} seconds to make a problem: choose easier options"
                raise UserError("task", self.name, hint)
            if "refused" in answer:
                raise UserError(*answer["refused"])
        return answers

    def _prompt(self, split: str, problem: dict[str, Any]) -> Prompt:
        prompt = self._style.prompt(self.name, Item(problem["question"], problem["answer"] or ""))
        return replace(prompt, data={"kind": _kind(split), "seed": problem["seed"], "answer": problem["answer"]})

    # -- answers ------------------------------------------------------------------------------------------------

    def answer(self, text: str, opened: bool = False) -> str:
        """The answer that a completion gives, by `extract`; "" if none. opened: it begins inside a thought."""
        c = self.config
        text = thought_out(cut(text, self.stop), c.tag, opened or bool(c.thinking_open))
        if c.extract == "tags":
            found = _TAGS.findall(text)
            answer = found[-1] if found else ""
        elif c.extract == "last_line":
            answer = next((line for line in reversed(text.splitlines()) if line.strip()), "")
        elif c.extract == "whole":
            answer = text
        else:
            answer = final_answer(text, c.extract) or ""
        return answer.strip() if len(answer) <= LONGEST else ""

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.verify_many([(prompt, text, ended)])[0]

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """1 for a full score, else 0; with `partial` the score itself. An answer that takes too long scores 0."""
        answers = [self.answer(text, self.config.opened(p)) for p, text, _ in completions]
        asked = [(str(p.data["kind"]), int(p.data["seed"]), a) for (p, _, _), a in zip(completions, answers)]
        new = [a for a in dict.fromkeys(asked) if a[2] and a not in self._scores]
        requests = [{"op": "score", "setup": self._setup, "kind": k, "seed": s, "answer": a} for k, s, a in new]
        for key, reply in zip(new, processes(self.config.workers).run(requests, self.config.time_limit) if new else []):
            self._scores[key] = min(1.0, max(0.0, reply["score"])) if reply else 0.0
        scores = [self._scores[a] if a[2] else 0.0 for a in asked]
        while len(self._scores) > REMEMBERED:
            self._scores.popitem(last=False)
        return scores if self.config.partial else [1.0 if score >= SOLVED else 0.0 for score in scores]

    def gold(self, prompt: Prompt) -> str:
        """The right answer, or one of them, written as `extract` finds it. UserError: the data set gives none."""
        answer = prompt.data["answer"]
        if answer is None:
            raise UserError("task", self.name, "gives no right answers, only scores: this needs a model as the expert")
        thought = f"</{self.config.tag}>" if self.config.opened(prompt) else ""
        wrapped = {"tags": f"<answer>{answer}</answer>", "marked": boxed(answer)}
        return thought + wrapped.get(self.config.extract, answer)

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        """The right answer alone, as `--expert recorded` imitates it."""
        return (self.gold(prompt),)

    def check(self, n: int = 4) -> None:
        """As Task.check, of the problems that have an answer."""
        for split in self.splits:
            for prompt in self.prompts(split, n, seed=0):
                answer = prompt.data["answer"]
                if answer is None or self.verify(prompt, self.gold(prompt), True) == 1.0:
                    continue
                read = self.answer(self.gold(prompt))
                if read != answer.strip():
                    hint = f"cannot read the right answer {answer[:80]!r}: use extract=tags"
                    raise UserError("task.extract", self.config.extract, hint)
                raise UserError("task", self.name, f"its scorer rejects its own answer {answer[:80]!r}")

    # -- models -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        return plain_tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`recorded`: the right answers; `answerer`: a program that writes them, with scores (programs/answerer.py)."""
        # imported here: tasks do without torch
        from understudy.experts.programs.answerer import AnswererExpert
        from understudy.experts.recorded import RecordedExpert

        if spec.name == "answerer":
            return AnswererExpert.from_spec(spec, tokenizer, self.gold, self.stop)
        if spec.name != "recorded":
            hint = "unknown; this task has `recorded` (its right answers) and `answerer` (the same with scores)"
            raise UserError("expert", spec.text, f"{hint}, or give a model")
        return RecordedExpert(self, tokenizer, spec)


class Distinct:
    """The distinct problems of a stream of draws, in order, until too many draws in a row bring nothing new."""

    def __init__(self) -> None:
        self.problems: list[dict[str, Any]] = []
        self.drawn = self.repeated = 0
        self.ended = False
        self._known: set[str] = set()
        self._in_a_row = 0

    def add(self, draws: Sequence[dict[str, Any]]) -> None:
        for problem in draws:
            if self.ended:
                return
            self.drawn += 1
            if problem["question"] not in self._known:
                self._known.add(problem["question"])
                self.problems.append(problem)
                self._in_a_row = 0
                continue
            self.repeated += 1
            self._in_a_row += 1
            self.ended = self._in_a_row >= 64 + 4 * len(self.problems)


def processes(n: int = 1) -> workers.Pool:
    """The children that hold reasoning_gym, shared by all tasks of this process that use `n` of them."""
    require()
    return workers.shared(("gym", n), lambda: workers.Pool("understudy.tasks.gym.child", (), _refused, n, MAKING))


def require() -> None:
    """UserError unless reasoning-gym is installed."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise UserError("task", "rg", "needs reasoning-gym: pip install 'understudy[gym]'")


def _kind(split: str) -> str:
    """Which of the two configurations makes the problems of a split."""
    return "ood" if split == "ood" else "train"


def _refused(why: str) -> UserError:
    return UserError("task", "rg", f"reasoning-gym cannot be used here ({why})")
