"""Tasks made in Python: from rows and a function, or any subclass of Task, by name or from a file.

`text_task("sums", rows, verify)` makes one and registers it, so that TrainConfig(task="sums") finds it in this process.
`--task FILE.py:NAME` finds one in a file, in every process: NAME is a task, a subclass of Task, or a function that
returns one, called with the options after it (FILE.py:NAME,key=value), which are texts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from
from understudy.specs import Spec
from understudy.tasks.generated import place
from understudy.tasks.text.task import plain_tokenizer
from understudy.types import Prompt

Row = Mapping[str, Any]
Verify = Callable[[Row, str], float]
"""verify(row, completion) -> the reward, in [0, 1]; True and False are 1 and 0."""

REGISTERED: dict[str, Task] = {}
"""Tasks of this process by name."""


class RowsTask(Task):
    """Prompts from rows, graded by a function of a row and a completion.

    A row is a mapping with `prompt`: text, or turns [{"role", "content"}, ...] for the model's chat template. Its
    `completion` (or `completions`) is what `--expert recorded` imitates, and the first must pass. All else is for
    `verify`. Rows with the same prompt are one problem: the first counts.
    """

    def __init__(
        self, name: str, rows: Sequence[Row], verify: Verify | None = None, max_new_tokens: int = 256,
        test_share: float = 0.1, test: Sequence[Row] | None = None,
    ) -> None:  # fmt: skip
        """verify: None = nothing is graded. test: the rows of that split; None = test_share of the problems, by a hash
        of each."""
        if not name.isidentifier():
            raise UserError("task", name, "must be a name of letters, digits and underscores")
        self.name, self.max_new_tokens = name, max_new_tokens
        self.splits: tuple[str, ...] = ("train", "test")
        self.verified = verify is not None
        self._verify = verify
        if not 0 < test_share < 1:
            raise UserError("test_share", test_share, "must lie in (0, 1)")
        held = _keyed(name, test or ())
        self._rows: dict[str, dict[str, Row]] = {"train": {}, "test": held}
        for key, row in _keyed(name, rows).items():
            if test is None and seed_from("held out", key) / 2**64 < test_share:
                held[key] = row
            elif key not in held:
                self._rows["train"][key] = row
        for split, found in self._rows.items():
            if not found:
                raise UserError("task", name, f"has no problem for {split}: give more rows, or another test_share")

    def size(self, split: str) -> int | None:
        return len(self._of(split))

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """Passes over all problems of the split, each in a new order."""
        keys = list(self._of(split))
        picked = [keys[place(len(keys), i, "rows", self.name, split, seed)] for i in range(start, start + n)]
        return [self._prompt(key, self._of(split)[key]) for key in picked]

    def _of(self, split: str) -> dict[str, Row]:
        if split not in self._rows:
            raise UserError("split", split, f"{self.name} has {', '.join(self.splits)}")
        return self._rows[split]

    def _prompt(self, key: str, row: Row) -> Prompt:
        prompt = row["prompt"]
        turns = () if isinstance(prompt, str) else tuple((t["role"], t["content"]) for t in prompt)
        return Prompt(key, prompt if isinstance(prompt, str) else turns[-1][1], dict(row), messages=turns)

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        """UserError: the function raises, or returns no number in [0, 1]."""
        if self._verify is None:
            return 0.0
        where = f"prompt {prompt.text[:60]!r}, completion {text[:60]!r}"
        try:
            reward = float(self._verify(prompt.data, text))
        except Exception as error:
            raise UserError("task", self.name, f"verify raised {type(error).__name__}: {error}, on {where}") from None
        if not 0.0 <= reward <= 1.0:
            raise UserError("task", self.name, f"verify returned {reward:g}, outside 0..1, on {where}")
        return reward

    def gold(self, prompt: Prompt) -> str:
        written = self.traces(prompt)
        return written[0] if written else super().gold(prompt)

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        row = prompt.data
        return tuple(row.get("completions") or ([row["completion"]] if row.get("completion") else ()))

    def check(self, n: int = 8) -> None:
        """UserError unless verify accepts what the first rows say is right, and grades an empty completion."""
        for split in self.splits if self.verified else ():
            for prompt in self.prompts(split, min(n, len(self._of(split))), seed=0):
                self.verify(prompt, "", True)
                if self.traces(prompt) and self.verify(prompt, self.gold(prompt), True) < self.passes:
                    hint = f"verify rejects the completion {self.gold(prompt)[:80]!r} of its own row"
                    raise UserError("task", self.name, hint)

    def digest(self) -> str:
        """Of all rows, and of the source of `verify` where Python has it."""
        text = json.dumps(self._rows, sort_keys=True, default=str) + _source(self._verify)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def tokenizer(self) -> Any:
        return plain_tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`recorded`: the completions of the rows."""
        # imported here: tasks do without torch
        from understudy.experts.recorded import RecordedExpert

        if spec.name != "recorded":
            hint = "unknown; this task has `recorded` (the completions of its rows), or give a model"
            raise UserError("expert", spec.text, hint)
        return RecordedExpert(self, tokenizer, spec)


def text_task(name: str, rows: Sequence[Row], verify: Verify | None = None, **options: Any) -> RowsTask:
    """A task from rows (RowsTask), registered under its name. options: max_new_tokens, test_share, test."""
    return register(RowsTask(name, rows, verify, **options))


def register(task: Any) -> Any:
    """Make a task known by its name in this process, in place of an earlier one of that name. Returns it."""
    if not isinstance(task, Task):
        raise UserError("task", repr(task), "must be an understudy.Task")
    REGISTERED[task.name] = task
    return task


def names_file(text: str) -> bool:
    """Whether a task as text is FILE.py:NAME, code that would be run."""
    return text.partition(":")[0].strip().endswith(".py")


def from_file(text: str, field: str, args: Mapping[str, str]) -> Task:
    """The task that FILE.py:NAME names. UserError: there is none, or it cannot be made."""
    file, _, name = text.partition(":")
    path = Path(file.strip()).expanduser()
    if not path.is_file():
        raise UserError(field, text, "no such file")
    module = _module(path, field, text)
    found = getattr(module, name, None)
    if found is None:
        known = [n for n, v in vars(module).items() if _makes(v) and getattr(v, "__module__", "") == module.__name__]
        raise UserError(field, text, f"the file defines no {name or 'name'}: FILE.py:NAME, one of {', '.join(known)}")
    try:
        made = found if isinstance(found, Task) else found(**args)
    except UserError:
        raise
    except Exception as error:
        raise UserError(field, text, f"raised {type(error).__name__}: {error}") from None
    if not isinstance(made, Task):
        raise UserError(field, text, f"is a {type(made).__name__}: it must be an understudy.Task, or return one")
    data = made.digest()
    content = hashlib.blake2b(path.read_bytes() + data.encode(), digest_size=8).hexdigest()
    made.digest = lambda: content  # type: ignore[method-assign]  # a changed file is another task
    return made


def _module(path: Path, field: str, text: str) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # the user's code may fail in any way
        raise UserError(field, text, f"cannot be loaded ({type(error).__name__}: {error})") from None
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _keyed(name: str, rows: Sequence[Row]) -> dict[str, Row]:
    """The first row of each problem by its key."""
    out: dict[str, Row] = {}
    for i, row in enumerate(rows):
        out.setdefault(f"{name} {hashlib.blake2b(_text(row, i).encode(), digest_size=8).hexdigest()}", row)
    return out


def _makes(value: Any) -> bool:
    return isinstance(value, Task) or callable(value)


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _text(row: Any, number: int) -> str:
    """What makes two rows the same problem. UserError: the row has no prompt."""
    prompt = row.get("prompt") if isinstance(row, Mapping) else None
    if isinstance(prompt, str) and prompt:
        return prompt
    turns = prompt if isinstance(prompt, (list, tuple)) else ()
    if turns and all(isinstance(t, Mapping) and {"role", "content"} <= t.keys() for t in turns):
        return json.dumps([[t["role"], t["content"]] for t in turns])
    raise UserError("rows", f"row {number}", 'needs `prompt`: text, or turns [{"role": ..., "content": ...}]')
