"""Stage 0, seconds: checks of what would make every later number meaningless. A failure stops, with reason and hint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from understudy.diagnosis.measures.collect import Setting, sample_student
from understudy.diagnosis.types import Check
from understudy.errors import UserError
from understudy.policy import check_same_language, tokenizer_sha
from understudy.policy.templates import first_difference, lost_note, turn_end
from understudy.policy.tokens import encoded, rendered
from understudy.randomness import seed_from
from understudy.types import Prompt, Rollout

NOISE = 0.05
"""Nats per token by which two scores of one text may differ (half precision gives about 0.01)."""
NOISE_CHECK = "the expert scores the same text alike twice"
MOST_LOST = 0.5
"""Share of the student's tokens that an expert with another tokenizer may have no score for."""
FEW = 16  # prompts that a check looks at
TEMPLATE_GAIN = 0.25
"""Accuracy by which the expert may do better behind its own chat template than on the student's prompts."""


def preflight(setting: Setting, name: str) -> tuple[Check, ...]:
    """Every check, passed or not; `name`: the expert's, for the messages."""
    return tuple(_all(setting, name))


def block(checks: tuple[Check, ...]) -> None:
    """UserError with the first failure's hint, and how many more checks failed."""
    failed = [c for c in checks if not c.passed]
    if failed:
        more = f" (and {len(failed) - 1} more checks failed)" if len(failed) > 1 else ""
        raise UserError(f"preflight: {failed[0].name}", failed[0].value, failed[0].hint + more)


def _all(setting: Setting, name: str) -> Iterator[Check]:
    student, expert = setting.student, setting.expert
    shown = f"{len(student.tokenizer)} tokens, {tokenizer_sha(student.tokenizer)}, end {list(student.end_ids)}"
    same = _try("tokenizer, vocabulary and end tokens", shown, lambda: check_same_language(student, expert, name))
    yield same
    prompts = _prompts(setting)
    yield _templates(setting, prompts)
    if any(p.messages for p in prompts):
        yield _turn_end(setting, prompts)
    yield _try("context length", f"{setting.room} tokens of completion fit", lambda: _room(setting, prompts))
    if not same.passed:
        return  # scores of foreign tokens would only confuse
    if "score" in setting.expert.capabilities:
        rollouts = sample_student(setting, setting.student, prompts, 1)
        yield _noise(setting, rollouts)
        if (found := setting.expert.alignment(rollouts)) is not None:
            yield _alignment(found)
    else:
        yield Check(NOISE_CHECK, True, "it gives no scores: only its samples can be used")
    if setting.reward:
        yield _try("verifier accepts its own gold answers", "8 prompts per split", setting.task.check)
        for name, expert, which in setting.expert.assigned(prompts):
            check = _own_template(dataclasses.replace(setting, expert=expert), [prompts[i] for i in which])
            yield dataclasses.replace(check, name=f"{check.name} ({name})") if name else check


def _try(name: str, value: str, attempt: Callable[[], Any]) -> Check:
    try:
        attempt()
    except UserError as error:
        return Check(name, False, str(error.value), error.hint)
    return Check(name, True, value)


def _prompts(setting: Setting) -> list[Prompt]:
    seed = seed_from("preflight", setting.seed) % 2**31
    return setting.student.encode(setting.task.prompts("train", FEW, seed))


def _room(setting: Setting, prompts: list[Prompt]) -> None:
    setting.student.check_room(prompts, setting.room)
    for _, expert, which in setting.expert.assigned(prompts):
        if expert.policy is not None:
            expert.policy.check_room([prompts[i] for i in which], setting.room)


def _templates(setting: Setting, prompts: list[Prompt]) -> Check:
    """Never fails: a difference alone does no harm, as both read the student's rendering; `_own_template` measures
    whether the expert does worse on it."""
    student = setting.student
    check = _compared(setting, prompts)
    lost = lost_note(student.tokenizer, prompts, student.name)
    return dataclasses.replace(check, value=f"{check.value}; {lost}") if lost else check


def _compared(setting: Setting, prompts: list[Prompt]) -> Check:
    name, student, expert = "chat template", setting.student, setting.expert
    of_student, of_expert = (getattr(x.tokenizer, "chat_template", None) for x in (student, expert))
    if not any(p.messages for p in prompts):
        same = "the same" if of_student == of_expert else "not the same"
        return Check(
            name, True, f"{same if of_student or of_expert else 'neither has one'}; prompts go in as plain text"
        )
    if expert.reads_its_own:
        return Check(name, True, "student and expert read each its own rendering")
    if expert.policy is None:
        return Check(name, True, "prompts go in by the student's; the expert is no model with one of its own")
    if not of_expert:
        return Check(name, True, "prompts go in by the student's; the expert has none (a base model?)")
    try:
        apart = _apart(setting, prompts[0])
    except UserError as error:
        return Check(name, True, f"prompts go in by the student's; the expert's refuses them ({error.hint})")
    if apart is None:
        return Check(name, True, "student and expert render the prompts alike")
    parts = f"the student's writes {apart[0]!r}, the expert's {apart[1]!r}"
    return Check(name, True, f"not the same: {parts}; both read the student's")


def _apart(setting: Setting, prompt: Prompt) -> tuple[str, str] | None:
    """Where the renderings of student and expert part; None: they are equal."""
    student, expert = setting.student, setting.expert
    return first_difference(
        rendered(student.tokenizer, prompt, student.name), rendered(expert.tokenizer, prompt, expert.name)
    )


def _turn_end(setting: Setting, prompts: list[Prompt]) -> Check:
    """A chat template on a base checkpoint: the model is shown turns that end in a token which ends no completion."""
    name, student = "the template's end of a turn", setting.student
    end = turn_end(student.tokenizer, next(p for p in prompts if p.messages))
    if end.token is None:
        return Check(name, True, "it writes none")
    shown = f"{end.text!r} ({end.token}); end tokens {list(student.end_ids)}"
    if end.token in student.end_ids:
        return Check(name, True, shown)
    hint = (
        f"completions would go on behind it (a base checkpoint with a chat template?): add {end.token} to eos_token_id "
        "in generation_config.json of student and expert"
    )
    return Check(name, False, shown, hint)


def _alignment(found: dict[str, float]) -> Check:
    """How much of the student's own completions an expert with another tokenizer scores."""
    tokens, size, lost = (100 * found[name] for name in ("tokens_one_to_one", "bytes_one_to_one", "tokens_lost"))
    shown = (
        f"{tokens:.0f}% of the student's tokens ({size:.0f}% of the bytes) are one token of both, {lost:.0f}% are lost"
    )
    good = found["tokens_lost"] <= MOST_LOST
    hint = "the expert has no score for the rest: imitate it offline, or choose an expert that can write such text"
    return Check("tokens of student and expert", good, shown, "" if good else hint)


def _noise(setting: Setting, rollouts: list[Rollout]) -> Check:
    """One text scored twice, in a batch and alone: padding, caching and kernels must make no difference."""
    name = NOISE_CHECK
    batch = setting.expert.score(rollouts)
    alone = [setting.expert.score([r])[0] for r in rollouts]
    gaps = [float((a.double() - b.double()).abs().mean()) for a, b in zip(batch, alone)]
    if not all(map(math.isfinite, gaps)):
        return Check(name, False, "a score is not finite", "the expert gives some text probability zero: smooth it")
    worst = max(gaps)
    hint = "the differences to measure would be smaller than this: score in float32, one text per batch, without top-k"
    return Check(name, worst <= NOISE, f"{worst:.1e} nats per token apart at most", "" if worst <= NOISE else hint)


def _own_template(setting: Setting, prompts: list[Prompt]) -> Check:
    """An instruct model that does far better behind its own template would be underrated on the student's prompts."""
    name, tokenizer = "the expert under its own template", setting.expert.tokenizer
    policy = setting.expert.policy
    if policy is None or tokenizer is None or not getattr(tokenizer, "chat_template", None):
        return Check(name, True, "it has none")
    chat = any(p.messages for p in prompts)
    turns = [p if p.messages else dataclasses.replace(p, messages=(("user", p.text),)) for p in prompts]
    try:
        own = encoded(tokenizer, [dataclasses.replace(p, ids=()) for p in turns], setting.expert.name)
    except UserError as error:
        return Check(name, True, f"it takes no such prompts ({error.hint})")
    dressed = [p.encoded(o.ids, o.opened) for p, o in zip(prompts, own)]
    if chat and all(a.ids == b.ids for a, b in zip(prompts, dressed)):
        return Check(name, True, "it is the student's")
    accuracies = []
    for variant in (prompts, dressed):
        policy.check_room(variant, setting.room)
        done = setting.task.verify_all(setting.expert.sample(variant, 2, setting.seed, setting.room))
        accuracies.append(float(np.mean([r.reward for r in done])))
    plain, templated = accuracies
    good = templated - plain <= TEMPLATE_GAIN
    if chat:
        hint = "it answers better behind its own template: give student and expert the same chat_template"
        return Check(
            name, good, f"{plain:.2f} behind the student's, {templated:.2f} behind its own", "" if good else hint
        )
    hint = "it answers better behind its template: put the template into the task's prompts, for student and expert"
    return Check(name, good, f"{plain:.2f} plain, {templated:.2f} behind it", "" if good else hint)
