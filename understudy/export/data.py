"""Prompts and completions of a phase, in the order in which Understudy would train on them, and their tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.config import Resolved, load, resolve
from understudy.errors import UserError
from understudy.experts.loading import is_programmatic, load_directly
from understudy.export.source import Phase
from understudy.policy import Policy, tokens
from understudy.policy.loading import load_policy
from understudy.protocols import Task
from understudy.runs.files import plain
from understudy.servers.urls import names_server
from understudy.terminal import Progress, no_progress
from understudy.training.acting import AT_ONCE, Actor, PromptStream
from understudy.training.rollouts import kept_rollouts, samples_are_kept
from understudy.types import Prompt, Rollout


class Language(Policy):
    """A model's tokenizer, end tokens and context, without its weights: enough to read and write prompts."""

    def __init__(self, tokenizer: Any, name: str, end_ids: tuple[int, ...], context: int, vocabulary: int) -> None:
        self.tokenizer, self.name, self.end_ids, self.context = tokenizer, name, end_ids, context
        self.vocabulary = vocabulary
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]


def read_language(name: str, trust_remote_code: bool = False) -> Language:
    """Of a model directory (or run) or hub id. UserError: it cannot be read."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    folder = Path(name) / "final" if os.path.isfile(Path(name) / "final" / "config.json") else Path(name)
    where = str(folder) if folder.is_dir() else name
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise UserError("student", name, "no such folder: a relative path is read from where you are now")
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
        shape = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code).get_text_config()
    except Exception as error:  # transformers raises many kinds here, all meaning: no model that can be read
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError("student", name, f"its tokenizer and configuration cannot be read ({reason})") from None
    try:
        ends = GenerationConfig.from_pretrained(where).eos_token_id
    except OSError:  # a model without generation_config.json
        ends = getattr(shape, "eos_token_id", None)
    end_ids = tokens.end_ids(ends, tokenizer, name, int(shape.vocab_size))
    context = int(getattr(shape, "max_position_embeddings", 0) or 0)
    return Language(tokenizer, name, end_ids, context, int(shape.vocab_size))


def language_of(config: Resolved, task: Task, scratch: Path | None = None) -> Policy:
    """The student's. A model from scratch is made, and saved to `scratch`, since it exists nowhere else."""
    if not config.student.startswith("scratch"):
        return read_language(config.student, config.trust_remote_code).add_stop_tokens(task.stop)
    policy = load_policy(config.student, "student", task.tokenizer(), config.seed, "cpu")
    if scratch is not None:
        policy.save(scratch)
    return policy.add_stop_tokens(task.stop)


@dataclass(frozen=True)
class Rows:
    """What the files of a phase are made of."""

    prompts: tuple[Prompt, ...]
    """As many as its updates take, in their order, each once however many completions it gets."""
    chat: bool
    """Whether prompts are turns for the model's own chat template; else they are the whole text."""
    texts: tuple[str, ...]
    """What the model reads."""
    rollouts: tuple[Rollout, ...] = ()
    """The expert's completions, prompt-major; () where the target samples by itself."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(p.ids) for p in self.prompts)

    def turns(self, i: int) -> list[dict[str, str]]:
        """The messages of a prompt; of plain text one of the user, which a template must not change."""
        if self.chat:
            return [{"role": role, "content": content} for role, content in self.prompts[i].messages]
        return [{"role": "user", "content": self.texts[i]}]


def rows_of(
    phase: Phase, task: Task, student: Policy, first_prompt: int, limit: int, offline: bool, sample_expert: bool,
    progress: Progress = no_progress,
) -> Rows:  # fmt: skip
    """The rows of a phase. first_prompt: where in the stream it begins. limit: most prompts; 0 = all of its updates.

    offline: with the expert's completions, those that the run has kept or new ones. UserError: there are none, and
    sampling a model was not asked for.
    """
    c = replace(phase.config, first_prompt=first_prompt)
    if limit and limit < c.updates * c.prompts_per_update:
        c = replace(c, updates=max(1, limit // c.prompts_per_update))
    stream = PromptStream(c, task, student)
    prompts = stream.take(0, c.updates * c.prompts_per_update)
    chat = bool(prompts[0].messages) and not prompts[0].prefill
    rollouts = _completions(phase, c, task, student, sample_expert, progress) if offline else []
    if rollouts:  # the pool's completions come back in every pass
        samples = c.samples_per_prompt
        which = stream.indices(0, len(prompts))
        rollouts = [
            replace(rollouts[at * samples + s], prompt=p) for p, at in zip(prompts, which) for s in range(samples)
        ]
    texts = tuple(tokens.rendered(student.tokenizer, p, student.name) for p in prompts)
    return Rows(tuple(prompts), chat, texts, tuple(rollouts))


def _completions(
    phase: Phase, c: Resolved, task: Task, student: Policy, sample_expert: bool, progress: Progress
) -> list[Rollout]:
    """The expert's, from the run or sampled here as its training would sample them."""
    if phase.run is not None and c.behavior == "expert":
        own = resolve(load(phase.run))
        if own.replay == "fixed" and samples_are_kept(own, phase.run):
            kept = kept_rollouts(own, task, student, phase.run)
            if len(kept) >= c.updates * c.prompts_per_update * c.samples_per_prompt or c.prompt_pool:
                return kept
    program = is_programmatic(c.expert)
    if not program and not sample_expert:
        hint = "its completions are not in the run: add --sample-expert to draw them here"
        raise UserError("expert", c.expert, hint)
    if names_server(c.expert) and "@" in c.expert:
        raise UserError("expert", c.expert, "an address with a password is not exported")
    expert = load_directly(c.expert_spec, task, student)
    actor = Actor(replace(c, behavior="expert"), task, student, lambda: expert, lambda: student)
    prompts = PromptStream(c, task, student).distinct()
    out: list[Rollout] = []
    for at in range(0, len(prompts), AT_ONCE):
        progress("sampling", at, len(prompts), "")
        out += actor.act(prompts[at : at + AT_ONCE], "fixed")
    return out


def problem_of(prompt: Prompt) -> str:
    """What the task's verifier needs of a prompt, as JSON: reward functions get it with each completion."""
    fields = {"key": prompt.key, "text": prompt.text, "data": plain(dict(prompt.data))}
    return json.dumps(fields | ({"opened": prompt.opened} if prompt.opened else {}), ensure_ascii=False)


def problem_from(text: str) -> Prompt:
    """The prompt that `problem_of` wrote."""
    fields = json.loads(text)
    return Prompt(fields["key"], fields["text"], fields["data"], opened=fields.get("opened", ""))


def check_rewards(task: Task, prompts: Sequence[Prompt]) -> None:
    """UserError unless the verifier judges gold answers alike when their prompts were written and read again."""
    for prompt in prompts:
        try:
            gold = task.gold(prompt)
        except UserError:
            continue
        again = problem_from(problem_of(prompt))
        if task.verify(again, gold, True) != task.verify(prompt, gold, True):
            hint = (
                f"its reward cannot be written to a file: prompt {prompt.key!r} is judged differently when read again"
            )
            raise UserError("task", task.name, hint)


def token_rows(rows: Rows, samples: int, mask: str) -> list[dict[str, Any]]:
    """The expert's completions as text and token ids; `mask`: the target's name for 1 on the completion's tokens."""
    out = []
    for i, r in enumerate(rows.rollouts):
        prompt = list(r.prompt.ids)
        out.append(
            {"prompt": rows.texts[i // samples], "completion": r.text, "input_ids": prompt + list(r.ids),
             mask: [0] * len(prompt) + [1] * len(r.ids)}
        )  # fmt: skip
    return out
