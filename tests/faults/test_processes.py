"""Two processes under torchrun (gloo, FSDP2) compute what one process computes, also when killed and resumed."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import many_processes
import pytest
import torch
from foreign import byte_level
from many_processes import CELLS, METHODS, OTHER, STEPS, cell, configuration, until

from understudy import distributed
from understudy.distributed import Launch, launched
from understudy.errors import UserError
from understudy.policy import make_scratch
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import checkpoints, read_final, read_ledger, read_metrics, read_provenance
from understudy.specs import parse_spec
from understudy.training.train import train

pytestmark = pytest.mark.xdist_group("processes")  # one worker makes `runs`
CLOSE = 1e-5
PAIRS = [(a, b) for a in "12345" for b in "12345"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """METHOD-one, METHOD-two, METHOD-cut (two processes, killed, resumed), METHOD-121 (one, two, one process)."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as m:
        from tiny import CoinTask

        from understudy import tasks

        m.setitem(tasks.TASKS, "coin", CoinTask.from_spec)
        for method in METHODS:
            train(configuration(method, folder / f"{method}-one"))
            until(3, configuration(method, folder / f"{method}-121"))  # its checkpoint is of step 2
        many_processes.routes(folder, "one")
        other = parse_spec("scratch:width=16,layers=1,heads=2,context=128,init=0.5", "student")
        make_scratch(other, byte_level(PAIRS), seed=20).save(folder / OTHER)
        for name in CELLS:
            train(cell(name, folder / f"{name}-one"), note=lambda _: None)
        command = [*TORCHRUN, many_processes.__file__, str(folder)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        for method in METHODS:
            assert [p.name for p in checkpoints(folder / f"{method}-121")][-1] == "step-00000004"
            train(configuration(method, folder / f"{method}-121"), note=lambda _: None)
    return folder


def untimed(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without timings."""
    out = []
    for line in read_metrics(run, kind):
        line["ledger"] = {k: v for k, v in line["ledger"].items() if "seconds" not in k}
        out.append({k: v for k, v in line.items() if not k.startswith("seconds")})
    return out


def spent(run: Path) -> dict[str, Any]:
    return {k: v for k, v in read_ledger(run).items() if "seconds" not in k}


def close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= CLOSE * max(1, abs(a))
    return bool(a == b)


@pytest.mark.parametrize("which", ["two", "121"])
@pytest.mark.parametrize("method", METHODS)
def test_the_result_of_one_process(method: str, which: str, runs: Path) -> None:
    """Catches gradients that are averaged instead of summed (or the reverse), shares that overlap or miss rows, a loss
    that is normalised by the tokens of a share, a norm of the local part, optimizer or random state that is wrong
    after another number of processes resumes, and a ledger that counts one share only, or everything twice."""
    one, other = runs / f"{method}-one", runs / f"{method}-{which}"
    a, b = load_tensors(one / "final/model.safetensors"), load_tensors(other / "final/model.safetensors")
    assert set(a) == set(b)
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=CLOSE, rtol=0)
    moved = max(float((t - a[n]).abs().max()) for n, t in start(one).items() if n in a)
    assert moved > 30 * CLOSE, "nothing was learned, so nothing was compared"
    for kind in ("train", "eval"):
        want, got = untimed(one, kind), untimed(other, kind)
        assert len(want) == len(got)
        for x, y in zip(want, got):
            assert close(x["ledger"], y["ledger"]), {
                k: (v, y["ledger"][k]) for k, v in x["ledger"].items() if v != y["ledger"][k]
            }
            assert close(x, y), {k: (x[k], y[k]) for k in x if not close(x[k], y[k])}
    assert spent(one) == spent(other)
    assert close(read_final(one), read_final(other))


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_on_two_processes(name: str, runs: Path) -> None:
    """Catches spans, contexts, bases and texts of another process's rows, prompts that are counted in every process,
    and groups that are cut."""
    one, two = runs / f"{name}-one", runs / f"{name}-two"
    assert [read_provenance(run).get("processes", 1) for run in (one, two)] == [1, 2]
    want, got = untimed(one), untimed(two)
    assert len(want) == len(got) == 2
    for x, y in zip(want, got):
        assert close(x, y), {k: (x[k], y[k]) for k in x if not close(x[k], y[k])}
        assert x["grad_norm"] > 0
    assert spent(one) == spent(two)
    a, b = weights(one / "final"), weights(two / "final")
    for tensor in a:
        torch.testing.assert_close(b[tensor], a[tensor], atol=CLOSE, rtol=0)


def start(run: Path) -> dict[str, torch.Tensor]:
    from understudy.policy import load_policy
    from understudy.tasks import load_task

    config = json.loads((run / "config.json").read_text())
    student = load_policy(config["student"], "student", load_task("countdown").tokenizer(), 0, "cpu")
    return dict(student.model.state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_a_resume_is_bit_identical(method: str, runs: Path) -> None:
    two, cut = runs / f"{method}-two", runs / f"{method}-cut"
    assert untimed(two) == untimed(cut)
    assert untimed(two, "eval") == untimed(cut, "eval")
    last = f"step-{STEPS:08d}"
    files = [p.relative_to(two) for p in sorted((two / "checkpoints" / last / "shards").iterdir())]
    assert len(files) == 2, "each process writes its part"
    for file in [*files, Path("final/model.safetensors"), Path("checkpoints") / last / "state.safetensors"]:
        a, b = load_tensors(two / file), load_tensors(cut / file)
        assert set(a) == set(b)
        assert all(torch.equal(a[n], b[n]) for n in a), file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x)


def test_the_guard_restores_the_start(runs: Path) -> None:
    """Its checkpoint is in two parts: what comes back is the start, bit for bit."""
    for which in ("one", "two"):
        guard = (read_final(runs / f"guard-{which}") or {})["guard"]
        assert (guard["state"], guard["step"]) == ("restored", 0), guard
    got, begun = weights(runs / "guard-two" / "final"), start(runs / "guard-two")
    assert all(torch.equal(got[n], begun[n]) for n in got)
    assert same(runs / "guard-one" / "final", runs / "guard-two" / "final")


def test_a_route_trains_as_its_phases_do(runs: Path) -> None:
    """Catches processes that look at different files, choose different models, or overwrite each other's result."""
    one, two = runs / "route-one", runs / "route-two"
    assert same(two / "phases/0-sft/final", runs / "sft-two" / "final")
    best = [(read_final(p) or {})["selection"] for p in (one, two)]
    assert best[0] == best[1]
    assert same(two / "final", two / "phases" / best[1]["best"] / "final")
    assert spent(one) == spent(two)
    rewards = [[c["rewards"] for c in json.loads((p / "route.json").read_text())["selection"]["candidates"]]
               for p in (one, two)]  # fmt: skip
    assert rewards[0] == rewards[1]


def test_auto_decides_as_one_process_does(runs: Path) -> None:
    one, two = (
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in
         (runs / f"auto-{which}" / "decisions.jsonl").read_text().splitlines()]
        for which in ("one", "two")
    )  # fmt: skip
    assert len(one) >= 3
    assert close(one, two)
    assert spent(runs / "auto-one") == spent(runs / "auto-two")
    a, b = (weights(runs / f"auto-{which}" / "final") for which in ("one", "two"))
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=CLOSE, rtol=0)


def test_a_mistake_crosses_between_processes() -> None:
    """SharedRun and `distributed.first` send it."""
    want = UserError("out", Path("a"), "choose another")
    got = copy.copy(want)  # made as it is on the other side
    assert (str(got), got.field, got.hint) == (str(want), want.field, want.hint)


def test_notes_and_provenance(runs: Path) -> None:
    notes = (runs / "notes.txt").read_text()
    assert re.search(r"2 processes on cpu \(gloo, FSDP2\): [\d,]+ weights, [\d,]+ to [\d,]+ on each", notes), notes
    assert read_provenance(runs / "sft-two")["processes"] == 2
    (first, second) = read_provenance(runs / "sft-121")["resumes"]
    assert (first["changed"]["processes"], "processes" in second["changed"]) == (2, False)


def test_a_dead_process_ends_the_others(tmp_path: Path, models: dict[str, Path]) -> None:
    """One process of the command is killed: the other ends soon with an error, and the same command resumes."""
    from killed_run import words
    from tiny import config

    changes: dict[str, Any] = {
        "task": "countdown", "student": str(models["llama"]), "updates": 40, "save_every": 1, "eval_every": 0,
        "processes": 2,
    }  # fmt: skip
    out = tmp_path / "run"
    command = [sys.executable, many_processes.__file__, "command", str(out), *words(config("sft", out, **changes))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    alive, dead = result["killed"]
    assert dead == -signal.SIGKILL, "it ended before it was killed"
    assert alive > 0, "without the other process it must fail, by itself"
    assert result["seconds"] < 60
    assert "error: process: 0 of 2: lost the other processes" in result["killed output"]
    assert result["resumed"] == [0, 0], result["resumed output"]
    first, second = result["resumed output"]
    assert (first.count("model: "), second.count("model: ")) == (1, 0), "only the first process prints"
    steps = [m["step"] for m in read_metrics(out, "train")]
    assert steps == list(range(1, 41))


TRAPS: dict[str, tuple[dict[str, str], str, str]] = {
    "accelerate": ({"ACCELERATE_USE_CPU": "true"}, "launcher", "knows of no others: use torchrun"),
    "srun": ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}, "launcher", "torchrun per node"),
    "half an environment": ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE", "LOCAL_RANK"),
    "words": ({"WORLD_SIZE": "two"}, "WORLD_SIZE", "not a number"),
    "no such rank": (
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
        "RANK", r"must be 0\.\.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_launchers_that_start_separate_processes(name: str) -> None:
    """Catches n processes that each train alone on the same run directory."""
    env, field, words = TRAPS[name]
    with pytest.raises(UserError, match=words) as caught:
        launched(env)
    assert caught.value.field == field


def test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launched({}) == launched({"WORLD_SIZE": "1"}) == Launch()
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == Launch()  # within sbatch, no step: one process
    assert distributed.spread(lambda part: [x + 1 for x in part], [1, 2]) == [2, 3]
    assert distributed.share([1, 2, 3]) == [1, 2, 3]
    with pytest.raises(UserError, match="2: requested, but 1 started"):
        train(configuration("sft", tmp_path / "run", processes=2))
    from understudy.cli.main import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["compare"]) == 2
    assert "runs in one process" in capsys.readouterr().err


def test_shares_cover_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of any number of processes, merged by `spread`, are the whole in its order."""

    def as_process(rank: int, size: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "size", lambda: size)

    items = list(range(11))
    for size in (2, 3, 13):
        parts = []
        for rank in range(size):
            as_process(rank, size)
            parts.append([(x, j) for x in distributed.share(items) for j in range(2)])
        monkeypatch.setattr(distributed, "gathered", lambda _, parts=parts: parts)
        for rank in range(size):
            as_process(rank, size)
            got = distributed.spread(lambda part: [(x, j) for x in part for j in range(2)], items, 2)
            assert got == [(x, j) for x in items for j in range(2)]
        groups = []
        for rank in range(size):
            as_process(rank, size)
            groups.append(distributed.share(items, 4))
        assert sorted(x for g in groups for x in g) == items
        assert all({x // 4 for x in a}.isdisjoint(x // 4 for x in b) for a in groups for b in groups if a is not b)
