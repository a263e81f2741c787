"""The options of a reward, which every task takes: `TASK:...,reward=FILE.py:function,reward_range=0:10`."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from understudy.errors import MEBIBYTE, UserError, check_file
from understudy.specs import check, option, require, unknown


@dataclass(frozen=True)
class RewardConfig:
    reward: str = ""
    """FILE.py:function: grades completions instead of the task's verifier (docs/tasks.md)."""
    reward_range: str = "0:1"
    """LOW:HIGH, the least and the largest reward. It is scaled to 0..1; one outside is an error."""
    reward_pass: float | None = None
    """A reward from which a completion counts as solved, for pass@k and weight=passed. Default: the largest."""
    reward_limit: float = option(60.0, least=0.1)
    """Seconds that one call may take, with up to 64 completions."""
    reward_workers: int = option(1, within="[1, 64]")
    """Processes that run it."""

    def __post_init__(self) -> None:
        check(self, "task")
        low, high = self.bounds
        inside = self.reward_pass is None or low < self.reward_pass <= high
        require(self, "task", ("reward_pass", inside, f"must lie in ({low:g}, {high:g}]"))

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """(least, largest) reward."""
        try:
            low, high = (float(part) for part in self.reward_range.split(":"))
        except ValueError:
            low = high = 0.0
        if not -1e9 <= low < high <= 1e9:
            raise UserError("reward_range", self.reward_range, "must be LOW:HIGH, two numbers such as 0:10 or -1:1")
        return low, high

    @property
    def passes(self) -> float:
        """`reward_pass` on the scale 0..1."""
        low, high = self.bounds
        return 1.0 if self.reward_pass is None else (self.reward_pass - low) / (high - low)

    @property
    def place(self) -> tuple[Path, str]:
        """(file, name of the function in it). UserError: there is no such file, or no such function in it."""
        file, colon, function = self.reward.rpartition(":")
        if not colon or not function.isidentifier() or not file:
            raise UserError("reward", self.reward, "must be FILE.py:function")
        path = Path(file).expanduser()
        if path.suffix != ".py":
            raise UserError("reward", self.reward, "must be FILE.py:function: the file is no .py file")
        check_file(path, "reward", 16 * MEBIBYTE)
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise UserError("reward", self.reward, f"cannot be read ({error.strerror or error})") from None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise UserError("reward", self.reward, f"is no Python ({getattr(error, 'msg', error)}{line})") from None
        functions = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        if function not in functions and function not in _names(tree):
            hint = unknown(function, functions) if functions else "the file defines no function"
            raise UserError("reward", self.reward, hint)
        return path, function

    def digest(self) -> str:
        """Of the file's bytes and of how its rewards are read."""
        content = hashlib.blake2b(self.place[0].read_bytes(), digest_size=8).hexdigest()
        return f"{content} {self.place[1]} {self.reward_range} {self.passes}"


OPTIONS = tuple(f.name for f in fields(RewardConfig))


def _names(tree: ast.Module) -> set[str]:
    """Names that a file binds at its top level in another way than by a `def`."""
    out: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            out |= {(alias.asname or alias.name) for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            out.add(node.name)
        else:
            out |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return out
