"""Recorded completions as an expert: it can only be sampled, and only on the train prompts that have a trace.

Legal wherever a row needs samples alone (sft, seq_kd; with --weight passed only the verified ones are kept).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.policy import Policy
from understudy.protocols import Expert, Task
from understudy.randomness import generator
from understudy.specs import Spec, build
from understudy.types import Prompt, Rollout


class RecordedExpert(Expert):
    """Traces as rollouts. Their behavior log-probs are not known: nan, which no row that may use them reads.

    A trace gets the student's end token, as the model that wrote it ended there; one that is longer than
    max_new_tokens is cut and gets none.
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
        ids = self.student.continuations([p for p, _, _ in named], [text for _, _, text in named])
        end = self.student.tokenizer.eos_token_id
        if end not in self.student.end_ids:
            end = self.student.end_ids[0]
        out = []
        for (p, s, text), body in zip(named, ids):
            ended = len(body) < max_new_tokens
            whole = (*body, end) if ended else tuple(body[:max_new_tokens])
            shown = text if ended else self.student.decode([whole])[0]
            out.append(Rollout(p, s, whole, (math.nan,) * len(whole), ended, shown, "expert"))
        return out


@dataclass(frozen=True)
class _NoOptions:
    pass
