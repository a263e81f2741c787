"""Recorded completions as an expert: it can only be sampled, and only on the train prompts that have a trace.

Legal wherever a row needs samples alone (sft, seq_kd; with --weight passed only the verified ones are kept).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.policy import Policy, tokens
from understudy.protocols import Expert, Task
from understudy.randomness import generator
from understudy.specs import Spec, build
from understudy.types import Prompt, Rollout


class RecordedExpert(Expert):
    """Traces as rollouts. Their behavior log-probs are not known: nan, which no row that may use them reads.

    A trace gets the student's end token, or the one that it spells out itself, as the model that wrote it ended there;
    one that is longer than max_new_tokens is cut and gets none. Where the prompt has opened a thought that the trace
    opens too, the second tag is left out.
    """

    capabilities = frozenset({"sample"})
    held_out = False  # traces are of train prompts
    hint = "it is recorded; use sft or seq_kd, or a model as expert"

    def __init__(self, task: Task, tokenizer: Any, spec: Spec) -> None:
        build(_NoOptions, spec.args, "expert")
        self.task, self.tokenizer, self.name = task, tokenizer, spec.text
        self.vocabulary, self.end_ids = len(tokenizer), (tokenizer.eos_token_id,)
        self.student: Policy | None = None
        self.provenance = {
            "mechanism": f"recorded: the traces in {task.name}, written by the authors of the data set",
            "realizable": None,
        }

    def for_student(self, student: Policy) -> RecordedExpert:
        """Traces become tokens in the student's language, after its prompts."""
        self.student, self.vocabulary, self.end_ids = student, student.vocabulary, student.end_ids
        return self

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """Different traces of a prompt, in an order named by (seed, key). UserError: it has fewer than `samples`."""
        if self.student is None:
            raise UserError("expert", self.name, "its traces are encoded for a student: train one on them")
        named = []
        for p in prompts:
            traces = self.task.traces(p)
            if len(traces) < samples:
                hint = f"prompt {p.key} has {len(traces)} recorded completions: use at most that many"
                raise UserError("samples_per_prompt", samples, hint)
            order = generator("recorded", seed, p.key).permutation(len(traces))
            named += [(p, s, traces[int(order[s])]) for s in range(samples)]
        return as_rollouts(self.student, named, max_new_tokens)


def as_rollouts(student: Policy, named: Sequence[tuple[Prompt, int, str]], max_new_tokens: int) -> list[Rollout]:
    """Recorded texts, each with its prompt and number, as completions in the tokens of a student."""
    usual = student.tokenizer.eos_token_id
    if usual not in student.end_ids:
        usual = student.end_ids[0]
    bare = [_bare(student, p, text) for p, _, text in named]
    ids = student.continuations([p for p, _, _ in named], [text for text, _ in bare])
    out = []
    for (p, s, _), (text, end), body in zip(named, bare, ids):
        ended = len(body) < max_new_tokens
        whole = (*body, usual if end is None else end) if ended else tuple(body[:max_new_tokens])
        shown = text if ended else student.decode([whole])[0]
        out.append(Rollout(p, s, whole, (math.nan,) * len(whole), ended, shown, "expert"))
    return out


def _bare(student: Policy, prompt: Prompt, text: str) -> tuple[str, int | None]:
    """(the trace without the tag of a thought that is open already and without an end in words, that end)."""
    text, end = tokens.without_end(student.tokenizer, student.end_ids, text)
    return tokens.without_opening(tokens.rendered(student.tokenizer, prompt, student.name), text), end


@dataclass(frozen=True)
class _NoOptions:
    pass
