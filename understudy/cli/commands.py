"""The commands that work on one run or model: train, eval, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.cli import options
from understudy.config import SECTIONS, TrainConfig, load
from understudy.errors import UserError
from understudy.terminal import Board, console


def train_command(args: Sequence[str]) -> int:
    """understudy train"""
    default = load(_value_of(args, "--config")) if _value_of(args, "--config") else None
    config, _ = options.parse(
        TrainConfig,
        args,
        "understudy train",
        "Train one student by one row of the table. Everything is kept in one run directory; the same command\n"
        "resumes it after a kill, a full disk or Ctrl-C, and ends with the same weights, bit for bit.",
        epilog="examples\n"
        "  understudy train --method sft --student PATH --expert solver --task countdown --out runs/a\n"
        "  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown\n"
        "  understudy train --config runs/a/config.json --out runs/a-again     (bit-identical on this machine)",
        sections=SECTIONS,
        default=default,
        extra={"config": "start from this resolved configuration (a run directory or its config.json)"},
    )
    from understudy import distributed

    distributed.launched()  # a launcher that starts strangers to one another is refused at once
    from understudy.training.train import Interrupted, train  # seconds of imports: only now

    try:
        with Board() as board:
            path = train(config, lambda phase, done, total, note: board.show("", phase, done, total, note))
    except Interrupted as stop:
        if distributed.is_main():
            console.print(f"interrupted: {stop}")
        return 130
    except UserError as error:
        if not distributed.should_report(str(error)):
            return 2
        if not distributed.is_main():
            print(f"in process {distributed.rank()} of {distributed.size()}:", file=sys.stderr)
        raise
    except Exception as error:
        told = distributed.connection_error(error)
        if told is None:
            raise
        raise told from error
    if not distributed.is_main():
        distributed.leave()
        return 0
    distributed.leave()
    for line in _told(path):
        console.print(line, markup=False)
    return 0


def _told(path: Path) -> list[str]:
    """What came out of a finished run, in a few lines."""
    from understudy.evaluation import intervals
    from understudy.runs.read import read_final, read_ledger

    final, ledger = read_final(path) or {}, read_ledger(path)
    lines = []
    for split, outcome in final.get("splits", {}).items():
        i = intervals.bootstrap_prompts(outcome["sampled"])
        told = f"{split}: sampled accuracy {i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"
        if outcome.get("greedy"):
            told += f", greedy {sum(outcome['greedy']) / len(outcome['greedy']):.3f}"
        lines.append(f"{told} ({i.n_prompts} prompts)")
    spent = ", ".join(f"{k.replace('_', ' ')} {v:,.0f}" for k, v in ledger.items() if v)
    return [*lines, f"spent: {spent}", f"model: {path / 'final'}", f"page:  understudy report {path}"]


def _value_of(args: Sequence[str], flag: str) -> str:
    for i, word in enumerate(args):
        if word == flag:
            if i + 1 == len(args):
                raise UserError(flag[2:], "", "needs a value")
            return args[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


@dataclass(frozen=True)
class EvalConfig:
    model: str = ""
    """What is evaluated: a model directory, a run directory, a hub id, or a programmatic expert such as `solver`."""
    task: str = "countdown"
    """Prompts and verifier, with options."""
    split: str = "test"
    """test, ood or train."""
    prompts: int = 256
    """Held-out prompts."""
    samples: int = 4
    """Samples a prompt at T = 1, top-p = 1."""
    k: tuple[int, ...] = (1,)
    """Report pass@k for these k; none may exceed `samples`."""
    max_new_tokens: int = 0
    """Longest completion. 0 = what the task asks for."""
    seed: int = 0
    """Names the sampled completions (the prompts are named by eval_seed)."""
    eval_seed: int = 0
    """Picks the held-out prompts."""
    device: str = "auto"
    """auto, cpu, cuda."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off unless you ask for it."""
    json: bool = False
    """Print JSON for programs."""


def eval_command(args: Sequence[str]) -> int:
    """understudy eval"""
    config, _ = options.parse(
        EvalConfig,
        args,
        "understudy eval",
        "Accuracy on held-out prompts: greedy, avg@k, pass@k, with 95% bootstrap intervals over prompts.",
        epilog="example\n  understudy eval --model runs/a --task countdown --samples 8 --k 1 8",
    )
    if not config.model:
        raise UserError("model", "", "missing: give a model or run directory, a hub id, or `solver`")
    too_large = [k for k in config.k if not 1 <= k <= config.samples]
    if too_large:
        raise UserError("k", too_large[0], f"must be 1..samples={config.samples}: raise --samples or lower --k")
    from understudy.evaluation.model import evaluate_model

    result = evaluate_model(config)
    if config.json:
        print(json.dumps(result))
        return 0
    for name, interval in result["measures"].items():
        if interval is not None:
            low, high = interval["low"], interval["high"]
            console.print(f"{name:>10}  {interval['value']:.3f}   [{low:.3f}, {high:.3f}]", markup=False)
    console.print(f"{result['prompts']} {config.split} prompts x {config.samples} samples, mean length "
                  f"{result['length']:.1f} tokens, {result['ended']:.0%} ended", markup=False)  # fmt: skip
    return 0


@dataclass(frozen=True)
class ReportConfig:
    runs: tuple[str, ...] = ()
    """One comparison directory, one diagnosis directory, or run directories."""
    out: str = ""
    """The page. Default: report.html (of a diagnosis: diagnosis.html) in the first directory."""


def report_command(args: Sequence[str]) -> int:
    """understudy report"""
    config, _ = options.parse(
        ReportConfig,
        args,
        "understudy report",
        "One self-contained HTML page from run directories. Loads no model and needs no network.",
        epilog="examples\n  understudy report runs/demo\n  understudy report runs/sft-0 runs/opd-0 --out page.html\n"
        "  understudy report runs/diagnose-solver-0",
        positional="runs",
    )
    if not config.runs:
        raise UserError("runs", "", "missing: give one comparison directory, or run directories")
    from understudy import report
    from understudy.report.diagnosis import page as diagnosis

    paths, out = [Path(r) for r in config.runs], Path(config.out) if config.out else None
    diagnosed = [path for path in paths if diagnosis.is_diagnosis(path)]
    if diagnosed and len(paths) > 1:
        raise UserError("runs", diagnosed[0], "is a diagnosis: report on it alone")
    page = diagnosis.build(paths[0], out) if diagnosed else report.build(paths, out)
    console.print(f"report: {page}", markup=False)
    return 0
