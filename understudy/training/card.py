"""The model card (README.md) of a trained model: what was done, with what, for how much, and what came out.

Everything in it comes from the run's own records. Names and paths are data: shown in code spans, so that nothing in
them is taken as Markdown, HTML or YAML; folders of this machine are named without their path.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.config import VOLATILE, TrainConfig
from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.runs.files import read_json
from understudy.training.guard import sentence
from understudy.types import Ledger

_MACHINE = VOLATILE | {"device", "threads"}
_ALWAYS = ("lr", "schedule", "warmup", "updates", "prompts_per_update", "samples_per_prompt")
"""Fields that the card names also at their defaults: without them nobody can repeat a training."""


def card(
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    ledger: Mapping[str, Any],
    final: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None = None,
) -> str:
    """Markdown with its YAML head. `config`, `provenance`, `ledger`, `final`: as in the run directory."""
    method = str(config["method"])
    adapter = int(config.get("lora_rank") or 0)
    lines = [
        *_head(config, adapter),
        "",
        f"# {span(method)} from {span(shown(config['student']))}",
        "",
        f"A language model that was trained by Understudy: method {span(method)}, task {span(config['task'])}, "
        f"expert {span(shown(config['expert'])) if config.get('expert') else '(none)'}.",
        "",
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("PATH_OR_HUB_ID")',
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OR_HUB_ID")',
        "```",
    ]
    if adapter:
        lines += ["", f"The weights are merged. The adapter alone (rank {adapter}) is in `adapter/`."]
    lines += [
        "",
        "## Recipe",
        "",
        "The optimizer and the batch, and every other field that is not at its default:",
        "",
        *_recipe(config),
    ]
    lines += ["", "## Data", "", *_data(config)]
    lines += ["", "## Budget", "", *_budget(ledger)]
    lines += ["", "## Evaluation", "", *_evaluation(config, final)]
    guard = final.get("guard")
    if guard is not None:
        lines += ["", "## Guard", "", escaped(sentence(guard))]
    if diagnosis is not None:
        lines += ["", "## Verdict made beforehand", "", *_verdict(diagnosis)]
    lines += ["", "## Made with", "", *_made_with(provenance), ""]
    return "\n".join(lines)


def _head(config: Mapping[str, Any], adapter: int) -> list[str]:
    """YAML, each value a JSON string, which YAML reads as one."""
    tags = ["understudy", "distillation" if config.get("expert") else "reinforcement-learning", str(config["method"])]
    out = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    student = str(config["student"])
    if re.fullmatch(r"[\w.-]+/[\w.-]+", student) and not os.path.exists(student):
        out.append(f"base_model: {json.dumps(student)}")
    out.append(f"tags: {json.dumps(tags + (['lora'] if adapter else []))}")
    return [*out, "---"]


def _recipe(config: Mapping[str, Any]) -> list[str]:
    plain = dataclasses.asdict(TrainConfig())
    rows = [
        (name, value)
        for name, value in config.items()
        if (value != plain.get(name) or name in _ALWAYS) and name not in _MACHINE and value is not None
    ]
    return ["| field | value |", "|---|---|", *(f"| {span(n)} | {cell(shown(v))} |" for n, v in rows)]


def _data(config: Mapping[str, Any]) -> list[str]:
    pool = config.get("prompt_pool")
    prompts = f"{pool} distinct prompts, cycled" if pool else "prompts that never repeat, or the task's own rows"
    return [
        f"Prompts and verifier: {span(shown(config['task']))}, seed {config['seed']}; {prompts}. "
        f"Completions by: {span(config['behavior'])}, replay {span(config['replay'])}."
    ]


def _budget(ledger: Mapping[str, Any]) -> list[str]:
    rows = [(name, ledger[name]) for name in dataclasses.asdict(Ledger()) if ledger.get(name)]
    return ["| spent | |", "|---|---|", *(f"| {n.replace('_', ' ')} | {v:,.0f} |" for n, v in rows)]


def _evaluation(config: Mapping[str, Any], final: Mapping[str, Any]) -> list[str]:
    out = [
        "Accuracy of completions sampled at temperature 1, with 95% bootstrap intervals over prompts, and of the "
        "most likely completion.",
        "",
        "| split | sampled | greedy | prompts x samples | expert, sampled |",
        "|---|---|---|---|---|",
    ]
    experts = final.get("expert") or {}
    graded = {split: outcome for split, outcome in final.get("splits", {}).items() if outcome["sampled"] is not None}
    if not graded:
        out = ["The task has no answers: accuracy was not measured."]
        losses = {split: o["loss"] for split, o in final.get("splits", {}).items() if "loss" in o}
        return out + [f"Loss on held-out completions, {s}: {loss:.3f} nats per token." for s, loss in losses.items()]
    for split, outcome in graded.items():
        i = intervals.bootstrap_prompts(outcome["sampled"])
        greedy = outcome.get("greedy")
        best = f"{sum(greedy) / len(greedy):.3f}" if greedy else "-"
        expert = "-"
        if split in experts and experts[split]["sampled"] is not None:
            e = intervals.bootstrap_prompts(experts[split]["sampled"])
            expert = f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
        size = f"{i.n_prompts} x {len(outcome['sampled'][0])}"
        out.append(f"| {cell(split)} | {i.value:.3f} [{i.low:.3f}, {i.high:.3f}] | {best} | {size} | {expert} |")
    return out


def _verdict(diagnosis: Mapping[str, Any]) -> list[str]:
    verdict = diagnosis["verdict"]
    chances = ", ".join(f"{span(k)} {float(v):.2f}" for k, v in verdict.get("probabilities", {}).items())
    out = [f"`understudy diagnose` said **{escaped(verdict['answer'])}** (probabilities: {chances})."]
    return [*out, "", *(f"- {escaped(reason)}" for reason in verdict.get("reasons", ()))]


def _made_with(provenance: Mapping[str, Any]) -> list[str]:
    versions = provenance.get("versions") or {}
    git = provenance.get("git") or {}
    source = f" (commit {span(git['commit'][:12])}{', changed' if git.get('dirty') else ''})" if git else ""
    names = ", ".join(f"{n} {v}" for n, v in versions.items() if v)
    return [f"{escaped(names)}{source}; {escaped(str(provenance.get('device', '')))}."]


def find_diagnosis(run: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The diagnosis of the same student, expert and task, in the run's folder or in one beside it."""
    for file in [run / "diagnosis.json", *sorted(run.resolve().parent.glob("*/diagnosis.json"))]:
        if not file.is_file():
            continue
        try:
            diagnosis = read_json(file)
            setting = diagnosis["setting"]
            if all(setting.get(name) == config.get(name) for name in ("student", "expert", "task")):
                _verdict(diagnosis)  # raises for a file that is no diagnosis
                return diagnosis
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return None


# ---------------------------------------------------------------- text that is data


def shown(value: Any) -> str:
    """A value as text; a folder without its path on this machine."""
    text = value if isinstance(value, str) else json.dumps(value)
    path = text.rstrip("/")
    return Path(path).name if os.path.isabs(path) or path.startswith(("~", "..")) else text


def span(text: Any) -> str:
    """A Markdown code span of one line, with a fence that is longer than any in it."""
    plain = " ".join(str(text).split()) or " "
    ticks = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{'`' * (ticks + 1)}{pad}{plain}{pad}{'`' * (ticks + 1)}"


def cell(text: Any) -> str:
    """A code span in a table, where a bar would end the cell."""
    return span(str(text).replace("|", "\\|"))


def escaped(text: str) -> str:
    """Plain text in Markdown: every character that means something there is escaped."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", " ".join(str(text).split()))
