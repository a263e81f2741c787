"""Prompts exactly as student and expert read them, before anything is paid for. Loads tokenizers, no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from understudy.errors import UserError
from understudy.evaluation.config import PromptsConfig
from understudy.experts import is_programmatic
from understudy.experts.assignment import Assignment
from understudy.experts.privileged import parse_self, with_context
from understudy.policy import tokenizer_sha
from understudy.policy.reader import Reader, load_reader
from understudy.policy.templates import added_system, first_difference, lost_turns, turn_end
from understudy.protocols import Task
from understudy.servers.urls import names_server
from understudy.specs import check, experts_in, names_self
from understudy.tasks import load_task
from understudy.types import Prompt

LENGTHS = 64
"""Prompts whose lengths are measured."""


def look(config: PromptsConfig) -> dict[str, Any]:
    """{"student", "expert", "experts", "room", "lengths", "notes", "prompts"}: see `_reader` and `_prompt` for the
    parts. experts: of several, by their names.

    UserError: no such task, split, model or template; a prompt that has none of several experts.
    """
    check(config)
    if not config.student:
        raise UserError("student", "", "missing: give a model directory, a hub id, or scratch")
    task = load_task(config.task)
    if config.split not in task.splits:
        raise UserError("split", config.split, f"unknown; one of {', '.join(task.splits)}")
    tokenizer = task.tokenizer() if config.student.startswith("scratch") else None
    student = load_reader(config.student, "student", tokenizer, config.trust_remote_code)
    specs = experts_in(config.expert)
    if (len(specs) > 1) != bool(config.expert_of):
        hint = "is for several experts, --expert a=SPEC b=SPEC, and they need it"
        raise UserError("expert_of", config.expert_of, hint)
    experts = {name: _expert(spec, config.trust_remote_code) for name, spec in specs.items()}
    size = task.size(config.split)
    most = max(config.n, LENGTHS)
    prompts = student.encode(task.prompts(config.split, most if size is None else min(most, size), config.seed))
    room = config.max_new_tokens or task.max_new_tokens
    lengths = sorted(len(p.ids) for p in prompts)
    groups = {"": list(range(len(prompts)))}
    if config.expert_of:
        groups = Assignment(tuple(specs), config.expert_of, task).groups(prompts)
    name_of = {i: name for name, which in groups.items() for i in which}
    shown = {name: _reader(x) if isinstance(x, Reader) else x for name, x in experts.items()}
    notes = [
        f"{name}: {note}" if name and "expert" in note else note
        for name, which in groups.items()
        for note in _notes(student, experts[name], [prompts[i] for i in which], room, task)
    ]
    return {
        "student": _reader(student), "expert": shown.get(""), "experts": shown if config.expert_of else {},
        "room": room, "lengths": {"shortest": lengths[0], "longest": lengths[-1], "of": len(lengths)},
        "notes": list(dict.fromkeys(notes)),
        "prompts": [
            _prompt(task, student, experts[name_of[i]], p)
            | _with_context(task, student, specs[name_of[i]], p)
            | ({"of": name_of[i]} if config.expert_of else {})
            for i, p in enumerate(prompts[: config.n])
        ],
    }  # fmt: skip


def _expert(spec: str, trust_remote_code: bool) -> Reader | str | None:
    """A model, or what is to be said of another expert."""
    if not spec:
        return None
    if names_server(spec):
        return "a server: one with /completions reads the student's ids, a chat server the turns"
    if names_self(spec):
        own = parse_self(spec)
        kind = "before training" if own.frozen else "as it is"
        return f"the student {kind}, which reads {own.context} in its prompt"
    if is_programmatic(spec):
        return "a program: it reads the problem, and its text is written with the student's tokenizer"
    return load_reader(spec, "expert", None, trust_remote_code)


def _reader(r: Reader) -> dict[str, Any]:
    return {
        "name": r.name, "tokens": len(r.tokenizer), "tokenizer": tokenizer_sha(r.tokenizer)[:12],
        "template": bool(getattr(r.tokenizer, "chat_template", None)), "context": r.context,
        "ends": {str(i): r.shown([i]) for i in r.end_ids},
    }  # fmt: skip


def _prompt(task: Task, student: Reader, expert: Reader | str | None, p: Prompt) -> dict[str, Any]:
    """One prompt: what is read, its tokens, what must come. expert: its own rendering, where that differs."""
    out: dict[str, Any] = {"key": p.key, "student": student.shown(p.ids), "tokens": len(p.ids)}
    if isinstance(expert, Reader):
        own = _encoded(expert, p)
        if own is None or isinstance(own, str):
            out["expert"] = own
        elif expert.shown(own) != out["student"]:
            out["expert"] = expert.shown(own)
    try:
        out["gold"] = task.gold(p)
    except UserError:
        out["gold"] = None
    try:
        traces = task.traces(p)
    except UserError:  # they were not asked for
        traces = ()
    out["trace"] = traces[0] if traces else None
    return out


def _with_context(task: Task, student: Reader, expert: str, p: Prompt) -> dict[str, Any]:
    """What the expert `self` reads in the place of this prompt; {} for another expert."""
    if not names_self(expert):
        return {}
    (own,) = student.encode([with_context(p, task, parse_self(expert))])
    return {"with_context": student.shown(own.ids), "tokens_with_context": len(own.ids)}


def _encoded(expert: Reader, p: Prompt) -> tuple[int, ...] | str:
    """The expert's ids of a prompt, or why it has none."""
    try:
        return expert.encode([Prompt(p.key, p.text, p.data, (), p.messages, p.prefill)])[0].ids
    except UserError as error:
        return f"cannot be read: {error.hint}"


def _notes(
    student: Reader, expert: Reader | str | None, prompts: Sequence[Prompt], room: int, task: Task
) -> Iterator[str]:
    """What is worth a look, in words."""
    first = prompts[0]
    for who, reader in (("student", student), ("expert", expert)):
        if not isinstance(reader, Reader):
            continue
        has_template = bool(getattr(reader.tokenizer, "chat_template", None))
        if has_template and not first.messages:
            yield f"the {who} has a chat template, and these prompts do not use it (for a data task: template=chat)"
        if not has_template or not first.messages:
            continue
        if system := added_system(reader.tokenizer, first, reader.name):
            yield f"the {who}'s template writes a system prompt of its own: {system!r}"
        for role in dict.fromkeys(lost_turns(reader.tokenizer, first, reader.name)):
            yield f"the {who}'s template drops the text of the {role} turn"
        end = turn_end(reader.tokenizer, first)
        if end.token is not None and end.token not in reader.end_ids:
            yield (
                f"the {who}'s template ends a turn with {end.text!r} ({end.token}), which is not one of its end tokens "
                f"{list(reader.end_ids)}: completions would go on behind it"
            )
    longest = max(prompts, key=lambda p: len(p.ids))
    for who, reader in (("student", student), ("expert", expert)):
        if isinstance(reader, Reader) and reader.context and len(longest.ids) + room > reader.context:
            yield (
                f"prompt {longest.key} ({len(longest.ids)} tokens) with {room} tokens of completion exceeds the "
                f"{who}'s context of {reader.context}"
            )
    if isinstance(expert, Reader):
        yield from _apart(student, expert, first)


def _apart(student: Reader, expert: Reader, prompt: Prompt) -> Iterator[str]:
    foreign = tokenizer_sha(student.tokenizer) != tokenizer_sha(expert.tokenizer)
    if foreign:
        yield "student and expert have other tokenizers: the expert reads completions as text, behind its own rendering"
    elif student.end_ids != expert.end_ids:
        yield f"end tokens differ: student {list(student.end_ids)}, expert {list(expert.end_ids)}"
    own = _encoded(expert, prompt)
    parts = None if isinstance(own, str) else first_difference(student.shown(prompt.ids), expert.shown(own))
    if isinstance(own, str):
        yield f"the expert's own rendering {own}"
    elif parts:
        who = "each reads its own" if foreign else "both read the student's"
        yield f"renderings part: the student's {parts[0]!r}, the expert's {parts[1]!r}; {who}"
