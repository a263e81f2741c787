"""The child process that holds an environment: `python -m understudy.tasks.environments.child SECONDS NAME JSON`.

An environment is a module with `load_environment(**args)`, which returns an object with `get_dataset`, perhaps
`get_eval_dataset`, and a `rubric` (verifiers 0.1). What is used of it is that interface alone: no class is imported.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from understudy.tasks.child import begun, serve

SINGLE = "SingleTurnEnv"  # the class whose subclasses ask one question and read one answer


class Environment:
    """Answers requests; one instance per process."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        module = importlib.import_module(name.replace("-", "_").rpartition("/")[2])
        if not hasattr(module, "load_environment"):
            raise TypeError(f"the module {module.__name__} has no load_environment")
        self.env = module.load_environment(**args)
        kinds = [kind.__name__ for kind in type(self.env).__mro__]
        if SINGLE not in kinds or any(name in kinds for name in ("ToolEnv", "EnvGroup")):
            raise TypeError(
                f"is a {kinds[0]}: it takes several turns or tools, and only single-turn ones can be trained"
            )
        self.rubric = self.env.rubric
        if getattr(self.rubric, "_get_group_reward_funcs", list)():
            raise TypeError("compares completions with each other (group rewards), which is not possible here")
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def answer(self, request: dict[str, Any]) -> Any:
        return getattr(self, f"do_{request.pop('op')}")(**request)

    def do_load(self) -> dict[str, Any]:
        """The rows of both splits ({"prompt", "answer"}; none of test where it has none), and its range of rewards."""
        weights = self._weights()
        low, high = sum(w for w in weights if w < 0), sum(w for w in weights if w > 0)
        splits = {split: [_sent(row) for row in self._rows(split)] for split in ("train", "test")}
        return {"splits": splits, "range": [low, high] if low < high else [0.0, 1.0]}

    def do_score(self, split: str, at: int, completion: str) -> dict[str, Any]:
        """The sum of its weighted rewards for one completion."""
        row = self._rows(split)[at]
        begun()
        chat = not isinstance(row["prompt"], str)
        written: Any = [{"role": "assistant", "content": completion}] if chat else completion
        try:
            return {"reward": float(asyncio.run(self._score(row, written)))}
        except Exception as error:
            return {"fault": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}

    async def _score(self, row: dict[str, Any], written: Any) -> float:
        known = {
            "prompt": row["prompt"], "completion": written, "answer": row.get("answer", ""),
            "task": row.get("task", "default"), "info": row.get("info") or {}, "example_id": row.get("example_id", 0),
        }  # fmt: skip
        state: dict[str, Any] = known | {"input": row, "responses": [], "turn": 1, "trajectory": []}
        state["timing"] = defaultdict(float)  # rubrics add their own milliseconds
        parameters = inspect.signature(self.rubric.score_rollout).parameters
        if "prompt" in parameters:  # up to 0.1.7
            score = await self.rubric.score_rollout(**known, state=state)
        else:
            score = await self.rubric.score_rollout(state)
        if score is None:
            return float(state["reward"])
        return float(score["reward"] if isinstance(score, dict) else score.reward)

    def _weights(self) -> list[float]:
        for name in ("_get_reward_weights", "get_reward_weights"):
            if hasattr(self.rubric, name):
                return [float(w) for w in getattr(self.rubric, name)()]
        return []

    def _rows(self, split: str) -> list[dict[str, Any]]:
        if split not in self.rows:
            get = self.env.get_dataset if split == "train" else getattr(self.env, "get_eval_dataset", None)
            try:
                data = get() if get else None
            except Exception:  # it has only the other one
                data = None
            self.rows[split] = [dict(row) for row in data] if data is not None else []
        return self.rows[split]


def _sent(row: dict[str, Any]) -> dict[str, Any]:
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        prompt = [{"role": str(m["role"]), "content": str(m["content"])} for m in prompt]
    answer = row.get("answer")
    return {"prompt": prompt, "answer": answer if isinstance(answer, (str, int, float)) else None}


def prepare() -> Callable[[dict[str, Any]], Any]:
    return Environment(sys.argv[2], json.loads(sys.argv[3])).answer


if __name__ == "__main__":
    serve(prepare, memory=0)
