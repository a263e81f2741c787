"""Run some items of one section in this process and print one JSON line each: `python -m benchmarks.child`.

It reads {"items": [{"section", "name", "args"}], "repeats"} from standard input.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.turns import in_turns, matmul_gflops

ROOT = Path(__file__).resolve().parent.parent
Args = Mapping[str, Any]


def rollouts(a: Args, repeats: int) -> dict[str, Any]:
    """Understudy's sampler, and generate with the cache that is faster here."""
    from benchmarks import ours, peers

    model = models.make(a["model"], a["vocabulary"], a["mean"])
    own = ours.rollouts(ours.policy(model), *a["size"])
    caches = {name: peers.generate(model, *a["size"], static=name == "static") for name in ("dynamic", "static")}
    own()
    tried = {name: _once(work) for name, work in caches.items()}
    best = min(tried, key=tried.__getitem__)
    return in_turns({"understudy": own, "generate": caches[best]}, repeats, warm=0) | {"cache": best}


def _once(work: Callable[[], int]) -> float:
    """Seconds per token."""
    began = time.perf_counter()
    tokens = work()
    return (time.perf_counter() - began) / tokens


def opd(a: Args, repeats: int) -> dict[str, Any]:
    """A whole update, against TRL's trainers and the loop by hand."""
    from benchmarks import ours, peers

    student, expert = models.make("1M", mean=a["mean"]), models.make("4M", mean=a["mean"], seed=1)
    with tempfile.TemporaryDirectory() as out:
        trl = {
            "DistillationTrainer": peers.distillation(copy.deepcopy(student), expert, *a["size"], out),
            "GKDTrainer": peers.gkd(copy.deepcopy(student), expert, *a["size"], out),
        }
        result = in_turns(
            {
                "understudy": ours.Training("opd_full", copy.deepcopy(student), expert, *a["size"]).whole,
                "by hand": peers.ByHand(copy.deepcopy(student), expert, *a["size"]).whole,
            }
            | {name: turns.whole for name, turns in trl.items()},
            repeats,
        )
        for turns in trl.values():
            turns.close()
    return result | {"flops": sum(_flops(a["size"]).values()) if not a["mean"] else None}


def _flops(size: list[int]) -> dict[str, float]:
    """Of sampling (each prompt once), scoring and learning of one opd_full update at full length, by recipes.cost."""
    from understudy.recipes.cost import forward
    from understudy.recipes.models import Shape

    def shape(name: str) -> Shape:
        d = models.DIMS[name]
        return Shape(d.layers, d.width, d.heads, d.kv_heads, d.width // d.heads, d.mlp, models.TOKENS, True)

    prompts, samples, length, room = size
    rows, context = prompts * samples, (length + room) / 2
    student, expert = forward(shape("1M"), context), forward(shape("4M"), context)
    tokens = rows * (length + room)
    return {
        "sample": (prompts * length + rows * room) * student, "score": tokens * expert, "learn": 3 * tokens * student
    }  # fmt: skip


def others(a: Args, repeats: int) -> dict[str, Any]:
    """Learning of sft on given completions, and a whole grpo update."""
    from benchmarks import ours, peers

    student = models.make("1M")
    training = ours.Training(a["method"], copy.deepcopy(student), models.make("1M") if a["method"] == "sft" else None,
                             *a["size"])  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        if a["method"] == "sft":
            done = training.sample()
            own: Callable[[], int] = partial(training.learn, done)
            trl = peers.sft(copy.deepcopy(student), [(r.prompt.ids, r.ids) for r in done], out)
        else:
            own, trl = training.whole, peers.grpo(copy.deepcopy(student), *a["size"], out)
        result = in_turns({"understudy": own, type(trl.trainer).__name__: trl.whole}, repeats)
        trl.close()
    return result


def memory(a: Args, repeats: int) -> dict[str, Any]:
    """Peak of this fresh process in one update of 64-token completions."""
    import torch

    from benchmarks import ours

    student, expert = models.make("narrow", a["vocabulary"]), models.make("narrow expert", a["vocabulary"], seed=1)
    training = ours.Training(a["method"], student, expert, a["prompts"], 1, 16, 64, micro_batch=a["micro"])
    gc.collect()
    loaded = _resident()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    training.whole()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(p.numel() * p.element_size() for m in (student, expert) for p in m.parameters())
    state = sum(p.numel() * p.element_size() for p in student.parameters()) * 3
    assert torch.get_num_threads() == 1
    return {"loaded": loaded, "peak_loading": before, "peak": peak, "weights": weights, "optimizer": state}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def shares(a: Args, repeats: int) -> dict[str, Any]:
    """Seconds of the parts of one opd_full update, and their FLOPs. Learning is the update without the scoring."""
    from benchmarks import ours

    training = ours.Training("opd_full", models.make("1M"), models.make("4M", seed=1), *a["size"])
    done = training.sample()
    work = {
        "sample": lambda: sum(len(r.ids) for r in training.sample()), "score": lambda: training.score(done),
        "score and learn": lambda: training.learn(done),
    }  # fmt: skip
    return in_turns(work, repeats) | {"flops": _flops(a["size"])}


def diagnosis(a: Args, repeats: int) -> dict[str, Any]:
    """The cost of each kept diagnosis as a share of both trainings."""
    rows = json.loads((ROOT / "docs/results/calibration.json").read_text(encoding="utf-8"))["rows"]
    return {"cost_share": [row["cost_share"] for row in rows if row.get("cost_share") is not None]}


def scaling(a: Args, repeats: int) -> dict[str, Any]:
    """Seconds of one and of two processes, each with the same work, in turns."""
    work = _compare if a["kind"] == "compare" else _fsdp
    out: dict[str, list[float]] = {"1": [], "2": []}
    for i in range(repeats):
        for n in (1, 2) if i % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory() as folder:
                out[str(n)].append(work(n, a["updates"], Path(folder) / "run"))
    return {"seconds": out}


SMALL = ["eval_every=0", "eval_prompts=4", "final_prompts=4", "final_samples=1", "eval_expert=false", "save_every=0"]


def _compare(n: int, updates: int, out: Path) -> float:
    """Wall seconds of a comparison of two methods on n seeds with n workers."""
    model = out.parent / "student"
    from understudy.policy import load_policy
    from understudy.tasks.tokenizer import shared_tokenizer

    load_policy("scratch:width=128,layers=5", "student", shared_tokenizer(), 0, "cpu").save(model)
    words = [
        "compare", "--student", str(model), "--experts", "solver=solver", "--methods", "sft", "opd_full", "--seeds",
        *map(str, range(n)), "--workers", str(n), "--no-diagnose", "--out", str(out), "--set", *SMALL,
        f"updates={updates}", "prompts_per_update=16", "max_new_tokens=32", "device=cpu",
    ]  # fmt: skip
    began = time.perf_counter()
    _understudy([sys.executable, "-m", "understudy", *words])
    return time.perf_counter() - began


def _fsdp(n: int, updates: int, out: Path) -> float:
    """Median seconds per update of a grpo training with 8 prompts x 4 samples per process, the first one left out."""
    words = [
        "train", "--method", "grpo", "--student", "scratch:width=128,layers=5", "--updates", str(updates),
        "--prompts-per-update", str(8 * n), "--samples-per-prompt", "4", "--max-new-tokens", "48", "--eval-every", "0",
        "--final-prompts", "4", "--final-samples", "1", "--save-every", "0", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n), "-m", "understudy"]
    _understudy([sys.executable, *launch, *words])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median([r["seconds"] for r in lines if r.get("kind") == "train"][1:])


def _understudy(command: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")


def machine() -> dict[str, Any]:
    """Of this run: the processor, the versions, and the largest rate of matrix products."""
    import torch

    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x.partition(":")[2].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        processor = names[0] if names else processor
    versions = {}
    for package in ("torch", "transformers", "trl"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "versions": versions,
        "gflops": matmul_gflops(),
    }  # fmt: skip


WORK = {f.__name__: f for f in (rollouts, opd, others, memory, shares, diagnosis, scaling)}


def main() -> int:
    warnings.filterwarnings("ignore")
    request = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what trainers print is no result
    import torch

    torch.set_num_threads(1)
    about = None
    for item in request["items"]:
        began = time.perf_counter()
        result = WORK[item["section"]](item["args"], request["repeats"])
        about = about or machine()  # after the first item, so that no peak of memory is that of the product
        took = time.perf_counter() - began
        answers.write(json.dumps({"name": item["name"], "took": took, "machine": about, "result": result}) + "\n")
        answers.flush()
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
