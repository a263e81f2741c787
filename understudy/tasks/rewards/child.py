"""The child process that runs a reward function: `python -m understudy.tasks.rewards.child SECONDS FILE FUNCTION`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy.tasks.child import serve
from understudy.tasks.rewards.calling import Fault, call


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    function = load(Path(sys.argv[2]), sys.argv[3])

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"rewards": call(function, request["prompts"], request["completions"], request["columns"])}
        except Fault as fault:
            return {"fault": fault.what, "at": fault.at}

    return answer


def load(file: Path, name: str) -> Any:
    """The object of that name in a Python file, which may import its neighbours."""
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, name)
    if not callable(function):
        raise TypeError(f"{name} is no function")
    return function


if __name__ == "__main__":
    serve(prepare, memory=0)
