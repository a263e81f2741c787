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
from understudy.randomness import seed_from
from understudy.types import Prompt

NOISE = 0.05
"""Nats per token by which two scores of one text may differ (half precision gives about 0.01)."""
FEW = 16  # prompts that a check looks at
TEMPLATE_GAIN = 0.25
"""Accuracy by which the expert may do better behind its own chat template than on the plain prompts."""


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
    yield _templates(student.tokenizer, expert.tokenizer)
    prompts = _prompts(setting)
    yield _try("context length", f"{setting.room} tokens of completion fit", lambda: _room(setting, prompts))
    if not same.passed:
        return  # scores of foreign tokens would only confuse
    yield _noise(setting, prompts)
    if setting.reward:
        yield _try("verifier accepts its own gold answers", "8 prompts per split", setting.task.check)
        yield _own_template(setting, prompts)


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
    for policy in (setting.student, setting.expert.policy):
        if policy is not None:
            policy.check_room(prompts, setting.room)


def _templates(student: Any, expert: Any) -> Check:
    """Never fails: prompts go in as plain text, so a difference alone does no harm; `_own_template` measures it."""
    of_student, of_expert = (getattr(tokenizer, "chat_template", None) for tokenizer in (student, expert))
    same = "the same" if of_student == of_expert else "not the same"
    shown = same if of_student or of_expert else "neither has one"
    return Check("chat template", True, f"{shown}; prompts go in as plain text")


def _noise(setting: Setting, prompts: list[Prompt]) -> Check:
    """One text scored twice, in a batch and alone: padding, caching and kernels must make no difference."""
    name = "the expert scores the same text alike twice"
    if "score" not in setting.expert.capabilities:
        return Check(name, True, "it gives no scores: only its samples can be used")
    rollouts = sample_student(setting, setting.student, prompts, 1)
    batch = setting.expert.score(rollouts)
    alone = [setting.expert.score([r])[0] for r in rollouts]
    gaps = [float((a.double() - b.double()).abs().mean()) for a, b in zip(batch, alone)]
    if not all(map(math.isfinite, gaps)):
        return Check(name, False, "a score is not finite", "the expert gives some text probability zero: smooth it")
    worst = max(gaps)
    hint = "the differences to measure would be smaller than this: score in float32, one text per batch, without top-k"
    return Check(name, worst <= NOISE, f"{worst:.1e} nats per token apart at most", "" if worst <= NOISE else hint)


def _own_template(setting: Setting, prompts: list[Prompt]) -> Check:
    """An instruct model that does far better behind its own template would be underrated on plain prompts."""
    name, tokenizer = "the expert under its own template", setting.expert.tokenizer
    policy = setting.expert.policy
    if policy is None or tokenizer is None or not getattr(tokenizer, "chat_template", None):
        return Check(name, True, "it has none")
    dressed = []
    for p in prompts:
        turn = [{"role": "user", "content": p.text}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
        dressed.append(dataclasses.replace(p, ids=tuple(ids)))
    accuracies = []
    for variant in (prompts, dressed):
        policy.check_room(variant, setting.room)
        done = setting.task.verify_all(setting.expert.sample(variant, 2, setting.seed, setting.room))
        accuracies.append(float(np.mean([r.reward for r in done])))
    plain, templated = accuracies
    good = templated - plain <= TEMPLATE_GAIN
    hint = "it answers better behind its template: put the template into the task's prompts, for student and expert"
    return Check(name, good, f"{plain:.2f} plain, {templated:.2f} behind it", "" if good else hint)
