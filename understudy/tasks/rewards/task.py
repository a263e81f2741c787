"""Any task with the user's own reward in place of its verifier."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.specs import Spec
from understudy.tasks import workers
from understudy.tasks.rewards.calling import Fault, Function, call
from understudy.tasks.rewards.config import RewardConfig
from understudy.types import Prompt

AT_ONCE = 64  # completions of one call; those of one prompt stay together
PROBED = 4  # train prompts on which it is tried before anything is trained


class RewardTask(Task):
    """`inner` with other rewards: scaled from `reward_range` to 0..1; a completion that is not graded gets 0."""

    verified = True

    def __init__(self, inner: Task, config: RewardConfig, function: Function | None = None) -> None:
        """function: one of this process, called here and without a time limit; None = the one that `config` names."""
        self.inner, self.config, self.function = inner, config, function
        self.name, self.splits, self.stop = inner.name, inner.splits, inner.stop
        self.max_new_tokens, self.keywords, self.thinking = inner.max_new_tokens, inner.keywords, inner.thinking
        self.passes = config.passes - 1e-6  # kept rewards are of single precision
        self.title = config.reward or getattr(function, "__name__", "the function")
        if function is None:
            self._file, self._function = config.place
            self._hash = config.digest()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    # -- of the task --------------------------------------------------------------------------------------------

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        return self.inner.prompts(split, n, seed, start)

    def size(self, split: str) -> int | None:
        return self.inner.size(split)

    def graded(self, split: str) -> bool:
        return True

    def gold(self, prompt: Prompt) -> str:
        return self.inner.gold(prompt)

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        return self.inner.traces(prompt)

    def demonstration(self, prompt: Prompt) -> str:
        return self.inner.demonstration(prompt)

    def recorded_texts(self, most: int) -> Sequence[str]:
        return self.inner.recorded_texts(most)

    def leave_out(self, split: str, prompts: Sequence[Prompt], why: str) -> bool:
        return self.inner.leave_out(split, prompts, why)

    def fields(self, prompt: Prompt) -> Mapping[str, Any]:
        return self.inner.fields(prompt)

    def part(self, name: str) -> Task:
        return self.inner.part(name)

    def tokenizer(self) -> Any:
        return self.inner.tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        return self.inner.expert(spec, tokenizer)

    def about(self) -> str:
        low, high = self.config.bounds
        scaled = "" if (low, high) == (0.0, 1.0) else f", scaled from {low:g}..{high:g} to 0..1"
        without = self.inner.about()  # and without its word on what is not graded
        return "; ".join(filter(None, [without.partition("; verifier none")[0], f"reward by {self.title}{scaled}"]))

    def digest(self) -> str:
        """Of the data and of the reward's file: a changed one is another task."""
        text = f"{self.inner.digest()} {self._hash if self.function is None else self.title}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    # -- rewards ------------------------------------------------------------------------------------------------

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.verify_many([(prompt, text, ended)])[0]

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """Scaled rewards. UserError: the function raises, hangs, or returns something else."""
        parts = _parts(completions)
        out = []
        for part, rewards in zip(parts, self._calls(parts)):
            out += [self._scaled(value, *completion[:2]) for value, completion in zip(rewards, part)]
        return out

    def check(self, n: int = PROBED) -> None:
        """UserError unless the function grades the right answers, and an empty one, of the first train prompts."""
        tried = []
        for prompt in self.prompts("train" if "train" in self.splits else self.splits[0], n, seed=0):
            with contextlib.suppress(UserError):  # there are tasks without answers
                tried.append((prompt, self.gold(prompt), True))
            tried.append((prompt, "", True))
        self.verify_many(tried)

    def _scaled(self, value: float | None, prompt: Prompt, text: str) -> float:
        low, high = self.config.bounds
        if value is None:
            return 0.0
        if not low <= value <= high:
            hint = f"returned {value:g}, outside {low:g}..{high:g}, {_where(prompt, text)}"
            raise UserError("reward", self.title, f"{hint}: give --reward-range=LOW:HIGH, or clip it")
        return (value - low) / (high - low)

    def _calls(self, parts: Sequence[Sequence[tuple[Prompt, str, bool]]]) -> list[list[float | None]]:
        requests = [_request(part) for part in parts]
        if self.function is not None:
            answers = [_here(self.function, request) for request in requests]
        else:
            answers = self._processes.run(requests)
        out = []
        for part, answer in zip(parts, answers):
            if answer is None:
                what = f"did not return within {self.config.reward_limit:g} seconds, or ended its process"
                where = f"on {len(part)} completions, {_where(*part[0][:2], first=True)}"
                hint = f"{what}, {where}: make it faster, or give --reward-limit"
                raise UserError("reward", self.title, hint)
            if "fault" in answer:
                at = answer["at"]
                where = _where(*part[at or 0][:2], first=at is None and len(part) > 1)
                raise UserError("reward", self.title, f"{answer['fault']}, {where}")
            out.append(answer["rewards"])
        return out

    @property
    def _processes(self) -> workers.Pool:
        c = self.config

        def make() -> workers.Pool:
            args = (str(self._file), self._function)
            return workers.Pool("understudy.tasks.rewards.child", args, self._refused, c.reward_workers, c.reward_limit)

        return workers.shared(("reward", c, self._hash), make)

    def _refused(self, why: str) -> UserError:
        return UserError("reward", self.title, f"cannot be loaded ({why})")


def _parts(completions: Sequence[tuple[Prompt, str, bool]]) -> list[list[tuple[Prompt, str, bool]]]:
    """About AT_ONCE at a time, in their order. Those of a prompt stay together: a function may compare them."""
    parts: list[list[tuple[Prompt, str, bool]]] = []
    for completion in completions:
        if not parts or (len(parts[-1]) >= AT_ONCE and parts[-1][-1][0].key != completion[0].key):
            parts.append([])
        parts[-1].append(completion)
    return parts


def _request(part: Sequence[tuple[Prompt, str, bool]]) -> dict[str, Any]:
    """What TRL passes: texts, or conversations where the prompt is one; and the columns of the rows."""
    prompts: list[Any] = []
    completions: list[Any] = []
    for prompt, text, _ in part:
        chat = bool(prompt.messages)
        prompts.append([{"role": r, "content": c} for r, c in prompt.messages] if chat else prompt.text)
        completions.append([{"role": "assistant", "content": prompt.prefill + text}] if chat else text)
    rows = [_columns(prompt.data) for prompt, _, _ in part]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names if name not in ("prompts", "completions")}
    return json.loads(json.dumps({"prompts": prompts, "completions": completions, "columns": columns}, default=str))


def _columns(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a prompt, and the columns of its row if the task keeps them; `answer` as the task reads it."""
    own = {k: v for k, v in data.items() if k != "row" and isinstance(k, str)}
    row = data.get("row")
    columns = own | (dict(row) if isinstance(row, Mapping) else {})
    return columns | ({"answer": own["answer"]} if own.get("answer") else {})


def _here(function: Function, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"rewards": call(function, request["prompts"], request["completions"], request["columns"])}
    except Fault as fault:
        return {"fault": fault.what, "at": fault.at}


def _where(prompt: Prompt, text: str, first: bool = False) -> str:
    shown = " ".join(text.split())
    which = "the first" if first else "row"
    return f"{which} {prompt.data.get('where') or prompt.key}, completion {shown[:60]!r}"
