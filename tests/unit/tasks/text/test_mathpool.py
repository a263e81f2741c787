"""math-verify in worker processes: right verdicts, a limit that holds, and nothing lost when a process dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("math_verify")

from understudy.errors import UserError
from understudy.tasks.text import mathpool
from understudy.tasks.text.mathpool import Pool
from understudy.tasks.text.verifiers import Math, load_verifier


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(workers=1, limit=120.0)  # far above any case here: a busy machine must not kill it
    yield pool
    pool.close()


RIGHT = [
    (r"\frac{1}{2}", "0.5"), ("x^2+2x+1", "(x+1)^2"), (r"\sqrt{12}", r"2\sqrt{3}"), ("(1,2)", r"\left(1, 2\right)"),
    ("3,4", "4, 3"), ("x=5", "5"), (r"[0,1)", r"[0, 1)"), (r"1.2\times 10^3", "1200"), (r"\frac{\pi}{2}", r"\pi/2"),
    ("C", r"\text{(C)}"), ("073", "73"), ("5", r"5\text{ cm}"), (r"\text{Monday}", "Monday"),
]  # fmt: skip
WRONG = [
    (r"\frac{1}{2}", "0.51"), ("x^2+1", "(x+1)^2"), ("(1,2)", "(2,1)"), ("[0,1)", "(0,1)"), ("C", "B"), ("A", "B"),
    ("7", ""), ("7", "\\"), ("7", "{" * 250), ("7", "\\frac{" * 100), ("7", "x" * 5000), ("7", "\x00"), ("7", "\ud800"),
    ("7", "__import__('os').system('true')"), ("7", "\\boxed{7"), ("5", "5 or 6"),
]  # fmt: skip


def test_verdicts(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches math-verify called the wrong way round, lettered answers left to it, hostile text that is right."""
    math = Math()
    monkeypatch.setattr(Math, "pool", pool)
    assert math.right(RIGHT) == [True] * len(RIGHT)
    assert math.right(WRONG) == [False] * len(WRONG)
    assert pool.killed == 0


def test_a_hang_is_wrong_and_costs_one_process() -> None:
    """A tower of powers does not end: its process is killed and counted, and the next question gets a new one."""
    pool = Pool(workers=1, limit=1.0)
    try:
        assert pool.check([("x+1", "1+x")]) == [True]
        began = time.monotonic()
        assert pool.check([("7", "9^{9^{9^{9^{9}}}}")]) == [False]
        assert pool.killed <= 1, "memory or time: either way one process"
        assert time.monotonic() - began < 60
        pool.limit = 20.0
        assert pool.check([("x+1", "1+x"), ("x+2", "2+x"), ("x+2", "3+x")]) == [True, True, False]
    finally:
        pool.close()


def test_a_process_that_dies_is_replaced(pool: Pool) -> None:
    assert pool.check([("x+5", "5+x")]) == [True]
    (worker,) = pool.workers
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    before = pool.killed
    # its question is lost and counts as wrong, as after a hang; the next question is answered
    pool.check([("x+6", "6+x")])
    assert pool.killed == before + 1
    assert pool.check([("x+7", "7+x")]) == [True]


def test_verdicts_are_remembered(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.check([("x+8", "8+x")] * 3) == [True] * 3
    monkeypatch.setattr(pool, "run", lambda requests: pytest.fail("asked again"))
    assert pool.check([("x+8", "8+x")]) == [True]


def test_children_end_with_their_pool() -> None:
    pool = Pool(workers=1, limit=120.0)  # far above any case here: a busy machine must not kill it
    pool.check([("x+1", "1+x")])
    (worker,) = pool.workers
    pool.close()
    assert worker.process.poll() is not None


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathpool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'understudy\[math\]', or choose verifier=number"):
        load_verifier("math")
    load_verifier("number")


def test_a_broken_installation_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a pool that waits without end for a process that cannot import math-verify."""
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(UserError, match="before it was ready"):
        Pool(1, 1.0).check([("x", "y")])
