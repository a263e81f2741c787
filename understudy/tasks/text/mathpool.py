"""math-verify in a few persistent worker processes (understudy/tasks/workers.py), and the verdicts it has given.

math-verify's own time limit is SIGALRM, which only a main thread receives, and sympy cannot be interrupted otherwise.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence

from understudy.errors import UserError
from understudy.tasks import workers

REMEMBERED = 50_000  # verdicts kept


def require() -> None:
    """UserError unless math-verify is installed."""
    if importlib.util.find_spec("math_verify") is None:
        hint = "needs math-verify: pip install 'understudy[math]', or choose verifier=number or exact"
        raise UserError("task.verifier", "math", hint)


class Pool(workers.Pool):
    """Verdicts of math-verify on (gold, answer) pairs, `workers` at a time, `limit` seconds each."""

    def __init__(self, workers: int = 2, limit: float = 5.0) -> None:
        super().__init__("understudy.tasks.text.mathworker", (), _refused, workers, limit)
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether math-verify accepts each answer for its gold; False where it ran out of time, died or failed."""
        new = [p for p in dict.fromkeys(pairs) if p not in self._known]
        for pair, verdict in zip(new, self.run([{"gold": g, "answer": a} for g, a in new]) if new else []):
            self._known[pair] = bool(verdict)
        out = [self._known[p] for p in pairs]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return out


def _refused(why: str) -> UserError:
    return UserError("task.verifier", "math", f"math-verify cannot be used here ({why})")


def shared(size: int, limit: float) -> Pool:
    """One pool per process and setting; its children end with this process."""
    return workers.shared(("math", size, limit), lambda: Pool(size, limit))
