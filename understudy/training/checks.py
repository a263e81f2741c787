"""What is refused, and what is settled, before the first forward pass: a mistake should cost seconds.

`before_loading` needs no model: the folders of models, what the task has and the expert can do.
`before_training` has the student: prompts that fit, and the room of completions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from understudy import distributed
from understudy.config import Resolved, TrainConfig, defaults
from understudy.errors import UserError
from understudy.evaluation.sampled import held_out, splits_of
from understudy.experts import is_programmatic
from understudy.experts.assignment import assignment_of, named, specs_of
from understudy.experts.privileged import parse_self, with_context
from understudy.methods import table
from understudy.policy import Policy, check_model
from understudy.policy.reader import load_reader
from understudy.policy.room import WHY, check_lengths
from understudy.protocols import Expert, Task
from understudy.servers.urls import names_server
from understudy.specs import names_self, parse_spec

READ = 20_000  # train prompts that are checked; a stream has no end
TRACES = 4096  # recorded completions whose lengths are counted
ROOM = 512  # tokens of a completion where neither the task nor its traces say more (TRL's max_completion_length)
STEP = 16  # a room by traces is a multiple of it


def before_loading(config: Resolved, task: Task) -> None:
    """UserError for what can be known without a model."""
    splits_of(f"{config.eval_splits},{config.eval_during}", task)
    task.prompts("train", 1, config.seed)
    check_rewards(config, task)
    check_model(config.student, "student")
    if (config.behavior == "base" or config.extrapolates) and config.base:
        check_model(config.base, "base")
    if not config.expert or not (table.needs_expert(config) or config.eval_expert):
        return
    if not config.expert_of:
        _check_expert(config, task)
        return
    check_assignment(config, task)
    for name, (spec, part) in specs_of(config.expert_spec, task).items():
        _check_expert(dataclasses.replace(config, expert=spec.expert), part, name)


def check_assignment(config: TrainConfig, task: Task) -> None:
    """UserError: with several experts, a prompt that has none of them, or one that no prompt has."""
    if config.expert_of:
        evaluated = splits_of(f"{config.eval_splits},{config.eval_during}", task) if config.eval_expert else ()
        assignment_of(config.expert, config.expert_of, task).check(config.seed, evaluated)


def check_rewards(config: Resolved, task: Task, field: str = "task") -> None:
    """UserError: the method learns from rewards, and the task has none."""
    if (config.reads_advantages or config.weight == "passed") and not task.verified:
        hint = f"has no answers, and method {config.method} with weight={config.weight} learns from rewards: give rows "
        raise UserError(field, config.task, hint + "with `answer`, or --reward FILE.py:function")


def _check_expert(config: Resolved, task: Task, name: str = "") -> None:
    """A model's folder; what a programmatic expert can do; that there are traces where the expert is recorded.

    name: of one of several experts.
    """
    if config.score_cache or names_server(config.expert):
        return  # it may be elsewhere; a server is connected to before anything is written
    if names_self(config.expert):
        _check_self(config, task)
        return
    if not is_programmatic(config.expert):
        check_model(config.expert, "expert")
        return
    spec = parse_spec(config.expert, "expert")
    own = task.tokenizer() if config.student.startswith("scratch") else None
    student = load_reader(config.student, "student", own, config.trust_remote_code)
    expert = task.expert(spec, student.tokenizer)
    _check_capabilities(config, expert, config.expert if not name else f"{name}={config.expert}")
    if spec.name == "recorded" and table.needs_expert(config):
        for prompt in task.prompts("train", _used(config, task, 2000), config.seed):
            if name and named(task.fields(prompt).get(config.expert_of)) != name:
                continue
            found = len(task.traces(prompt))
            if found < config.samples_per_prompt:
                hint = f"prompt {prompt.key} has {found} recorded completions: use at most that many"
                raise UserError("samples_per_prompt", config.samples_per_prompt, hint)


def _check_self(config: Resolved, task: Task) -> None:
    """The student as its own expert: its options, its context, and where it cannot be."""
    own = parse_self(config.expert)
    with_context(task.prompts("train", 1, config.seed)[0], task, own)
    if not own.frozen and config.replay == "fixed":
        hint = "what a student samples is old after a few updates: use frozen=true, or --replay fresh"
        raise UserError("expert.frozen", False, hint)
    if not own.frozen and config.expert_device:
        raise UserError(
            "expert_device", config.expert_device, "the expert is the student: leave it out, or frozen=true"
        )
    if distributed.size() > 1 and config.target == "distribution" and (config.lora_rank or not own.frozen):
        hint = "several processes share no weights between student and expert: use frozen=true and all weights, or one"
        raise UserError("expert", config.expert, hint)


def check_capabilities(config: Resolved, expert: Expert) -> None:
    """UserError: the expert, or one of several, cannot do what the cells of this method need."""
    for name, one in expert.several.items():
        _check_capabilities(config, one, f"{name}={one.name}")
    _check_capabilities(config, expert, config.expert)


def _check_capabilities(config: Resolved, expert: Expert, shown: str) -> None:
    missing = table.lacking(config, expert.capabilities)
    if missing:
        raise UserError(
            "expert",
            shown,
            f"cannot {' or '.join(sorted(missing))}, which method {config.method} needs; it can "
            f"{', '.join(sorted(expert.capabilities)) or 'nothing'}{': ' if expert.hint else ''}{expert.hint}",
        )


def between_families(config: Resolved, expert: Expert) -> str:
    """One line where another row suits an expert with another tokenizer better, or one of several; "" = none does."""
    for name, one in expert.several.items():
        if line := between_families(config, one):
            return f"{name}: {line}"
    facts = expert.provenance.get("tokenizer")
    if config.target != "distribution" or not isinstance(facts, dict) or "shared" not in facts:
        return ""
    better = "opd_reward" if config.weight == "expert_reward" else "opd" if config.behavior == "student" else "sft"
    return (
        f"method {config.method} learns nothing inside what an expert with other tokens writes as one longer token: "
        f"prefer --method {better}, which compares texts (docs/experts.md)"
    )


def _used(config: Resolved, task: Task, most: int) -> int:
    """How many prompts to look at: those that the training reads, each row of a data set once, `most` at most."""
    n = config.prompt_pool or config.first_prompt + config.updates * config.prompts_per_update
    return min(n, task.size("train") or config.prompts_per_update, most)


def before_training(config: Resolved, task: Task, student: Policy) -> str:
    """Refuse now what would stop the run at a later batch, or after hours at its last evaluation.

    Prompts that are too long are left out where the task allows it; then, a line that says how many.
    """
    room, evaluated = room_of(config, task), splits_of(f"{config.eval_splits},{config.eval_during}", task)
    left_out = check_lengths(task, student, ("train", *evaluated), room)
    for split in evaluated:
        held_out(task, student, split, config.final_prompts, config.eval_seed, room)
    n = max(_used(config, task, READ), min(config.prompts_per_update, READ))
    student.check_room(student.encode(task.prompts("train", n, config.seed)), room)
    return f"{left_out:,} prompts are {WHY} and left out" if left_out else ""


def with_room(config: Resolved, task: Task, student: Policy) -> tuple[Resolved, str]:
    """With the room of a completion where neither options nor task give it, and a line that says so.

    By the lengths of recorded completions, if the task has read any: a longer one would be cut, a larger room costs
    memory and time in every evaluation.
    """
    if config.max_new_tokens or task.room == "given":
        return config, ""
    texts = task.recorded_texts(TRACES)
    if not texts:
        if task.room == "usual" or task.max_new_tokens <= ROOM:
            return config, ""
        line = f"at most {ROOM} tokens per completion: the task does not say more (--max-new-tokens)"
        return dataclasses.replace(config, max_new_tokens=ROOM), line
    ids = student.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    lengths = sorted(len(i) + 1 for i in ids)  # with the end token
    room = min(task.max_new_tokens, -(-lengths[-1] // STEP) * STEP)
    cut = sum(n > room for n in lengths)
    line = f"at most {room} tokens per completion: the longest of {len(lengths)} recorded ones has {lengths[-1]}"
    line += f"; {cut} are cut" if cut else ""
    return dataclasses.replace(config, max_new_tokens=room), f"{line} (--max-new-tokens)"


def with_costs(config: Resolved, task: Task, left_open: Sequence[str]) -> Resolved:
    """With the fields that were left open again, now that the room of a completion is known."""
    nothing: dict[str, Any] = dict.fromkeys(left_open)
    values = defaults.filled(dataclasses.replace(config, **nothing), room_of(config, task))
    return dataclasses.replace(config, **values)


def room_of(config: Resolved, task: Task) -> int:
    """Tokens of the longest completion."""
    return config.max_new_tokens or task.max_new_tokens
