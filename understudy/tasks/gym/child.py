"""The child process that holds reasoning_gym: it makes problems and scores answers (understudy/tasks/workers.py).

`python -m understudy.tasks.gym.child SECONDS`. Requests are {"op", "setup", ...}; a problem is named by a stream and
found again by its seed, so that any child can score it. PYTHONHASHSEED is fixed by the parent: some generators draw
from sets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import re
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from typing import Any

from understudy.errors import UserError
from understudy.specs import unknown
from understudy.tasks.child import begun, serve
from understudy.tasks.generated import is_held_out
from understudy.tasks.gym.options import configured, described, leveled
from understudy.tasks.gym.safety import harmless

PATIENCE = 1000  # draws until a problem is on the wanted side
CHUNK = 32  # problems of one data set whose problems are all made, or chosen, at its construction
REFUSED = {"composite": "is a mixture of others: name one of them"}


@dataclasses.dataclass(frozen=True)
class SetUp:
    dataset: Any
    config: Any
    """Its configuration, of CHUNK problems and seed 0."""
    executes: bool
    """Whether its scorer may execute the answer."""
    at_once: bool
    """Whether its problems depend on the seed at its construction: another seed later would change nothing."""


class Gym:
    """Answers requests; one instance per process."""

    def __init__(self) -> None:
        from reasoning_gym.factory import CURRICULA, DATASETS  # an optional extra, and seconds of imports

        self.datasets, self.curricula = DATASETS, CURRICULA
        self.set_up = lru_cache(maxsize=16)(self._set_up)
        self.problem = lru_cache(maxsize=8192)(self._problem)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = getattr(self, f"do_{request.pop('op')}")
        try:
            return operation(**request)
        except UserError as error:
            return {"refused": [error.field, str(error.value), error.hint]}

    # -- requests -----------------------------------------------------------------------------------------------

    def do_list(self) -> dict[str, Any]:
        """Category -> names."""
        out: dict[str, list[str]] = {}
        for name, (dataset, _) in sorted(self.datasets.items()):
            if name not in REFUSED:
                out.setdefault(dataset.__module__.split(".")[1], []).append(name)
        return out

    def do_describe(self, name: str) -> dict[str, Any]:
        """Options and levels of a data set."""
        return described(name, self._registered(name)[1], self.curricula)

    def do_check(self, setup: str) -> dict[str, Any]:
        """UserError unless the set-up is legal. Says its version, and the configurations of the two kinds of prompt."""
        kinds = {kind: repr(self.set_up(setup, kind).config) for kind in ("train", "ood") if self._has(setup, kind)}
        if kinds.get("ood") == kinds["train"]:
            wanted = json.loads(setup)
            value = wanted["ood_level"] if wanted["ood_level"] is not None else wanted["ood"]
            raise UserError("task.ood_level", value, "gives the same problems as train: choose a higher level")
        return {"version": metadata.version("reasoning_gym"), "kinds": kinds}

    def do_draw(self, setup: str, kind: str, name: str, held_out: bool) -> dict[str, Any]:
        """The first problem on the wanted side of the wall, of the stream of that name."""
        wanted, failed = json.loads(setup), ""
        for attempt in range(PATIENCE):
            digest = hashlib.blake2b(f"{name}|{attempt}".encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "little") % 2**31
            try:
                entry = self.problem(setup, kind, seed)
            except UserError:
                raise
            except Exception as error:  # a generator may give up on a seed
                failed = f"makes no problem with these options ({' '.join(str(error).split())[:200]})"
                continue
            if is_held_out(" ".join(entry["question"].split()), wanted["seed"], wanted["test_share"]) == held_out:
                return {"seed": seed, "question": entry["question"], "answer": _gold(entry)}
        if failed:
            raise UserError("task", f"rg:{wanted['name']}", failed)
        raise UserError("task.test_share", wanted["test_share"], "leaves no problem on one side: choose one nearer 0.5")

    def do_score(self, setup: str, kind: str, seed: int, answer: str) -> dict[str, Any]:
        """The score of an answer in [0, 1]; an answer that breaks the scorer scores 0."""
        made = self.set_up(setup, kind)
        if made.executes and not harmless(answer):
            return {"score": 0.0}
        entry = self.problem(setup, kind, seed)
        begun()
        try:
            return {"score": float(made.dataset.score_answer(answer, entry))}
        except Exception:  # RecursionError and MemoryError too
            return {"score": 0.0}

    # -- data sets ----------------------------------------------------------------------------------------------

    def _registered(self, name: str) -> Any:
        if name in REFUSED:
            raise UserError("task", f"rg:{name}", REFUSED[name])
        if name not in self.datasets:
            hint = f"{unknown(name, self.datasets).partition('; one of')[0]}; " if name else "names no data set; "
            raise UserError("task", f"rg:{name}", f"{hint}`understudy tasks rg` lists them, for example rg:chain_sum")
        return self.datasets[name]

    @staticmethod
    def _has(setup: str, kind: str) -> bool:
        wanted = json.loads(setup)
        return kind == "train" or wanted["ood_level"] is not None or bool(wanted["ood"])

    def _set_up(self, setup: str, kind: str) -> SetUp:
        wanted = json.loads(setup)
        name, own = wanted["name"], wanted["own"]
        dataset, config = self._registered(name)
        options, level = dict(wanted["options"]), wanted["level"]
        levels = {} if level is None else leveled(name, self.curricula, level, False, "task.level")
        if kind == "ood":
            if wanted["ood_level"] is not None:
                harder = leveled(name, self.curricula, wanted["ood_level"], True, "task.ood_level")
                options = {k: v for k, v in options.items() if k not in harder}
                levels |= harder
            options |= wanted["ood"]
        made = configured(name, config, options, levels, own)
        plain = dataclasses.replace(made, size=CHUNK, seed=0)
        source = inspect.getsource(inspect.getmodule(dataset) or dataset)
        executes = re.search(r"\beval\(|\bparse_expr\(|sympify\(", source) is not None
        return SetUp(dataset(config=dataclasses.replace(plain)), plain, executes, _made_at_once(dataset))

    def _problem(self, setup: str, kind: str, seed: int) -> dict[str, Any]:
        """The problem of that seed."""
        made = self.set_up(setup, kind)
        if made.at_once:
            whole, at = divmod(seed, CHUNK)
            entry = type(made.dataset)(config=dataclasses.replace(made.config, seed=whole))[at]
        else:
            made.dataset.seed = made.dataset.config.seed = seed
            entry = made.dataset[0]
        if not isinstance(entry["question"], str):
            raise UserError("task", repr(made.config), "makes a problem that is no text")
        return dict(entry)


def _made_at_once(dataset: Any) -> bool:
    body = inspect.getsource(dataset.__init__).replace("super().__init__", "")
    return "Random(" in body or "_generate_questions" in body


def _gold(entry: dict[str, Any]) -> str | None:
    """The right answer, or one that the data set gives as an example; None: it has none."""
    known = entry["metadata"]
    names = ("example_answer", "example_correct_answer", "possible_answer")
    answer = entry["answer"] if entry["answer"] is not None else next((known[n] for n in names if known.get(n)), None)
    return answer if answer is None or isinstance(answer, str) else json.dumps(answer)


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    return Gym().answer


if __name__ == "__main__":
    serve(prepare)
