"""Fixtures of all tests: tiny Hugging Face model directories, written once per session, and the task `coin`."""

from __future__ import annotations

import os
import resource
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a model hub

import pytest
import torch
from hypothesis import settings

# no deadline per example: the machine may be shared and slow
settings.register_profile("understudy", deadline=None)
settings.load_profile("understudy")

# a test that takes more fails by itself; else the machine kills its worker, and the run waits for that for ever
MOST = 14 << 30
if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
    resource.setrlimit(resource.RLIMIT_AS, (MOST, resource.getrlimit(resource.RLIMIT_AS)[1]))

ARCHITECTURES = ("llama", "qwen2", "qwen3")


@pytest.fixture(autouse=True)
def _coin_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks `coin` (about half of all completions pass its verifier) and `kinds` (tiny.py)."""
    from tiny import CoinTask, KindsTask

    from understudy import tasks

    monkeypatch.setitem(tasks.TASKS, "coin", CoinTask.from_spec)
    monkeypatch.setitem(tasks.TASKS, "kinds", KindsTask.from_spec)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture -> a model directory (width 16, one block, two heads, the task's own tokenizer)."""
    from understudy.policy import make_scratch
    from understudy.specs import parse_spec
    from understudy.tasks import load_task

    torch.set_num_threads(1)
    tokenizer = load_task("countdown").tokenizer()
    root = tmp_path_factory.mktemp("models")
    for i, arch in enumerate(ARCHITECTURES):
        spec = parse_spec(f"scratch:width=16,layers=1,heads=2,context=128,arch={arch},init=0.5", "student")
        make_scratch(spec, tokenizer, seed=10 + i).save(root / arch)
    return {arch: root / arch for arch in ARCHITECTURES}
