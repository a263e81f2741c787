"""Recorded completions as an expert: it can only be sampled, and only on the train prompts that have a trace.

Legal wherever a row needs samples alone (sft, seq_kd; with --weight passed only the verified ones are kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.experts.written import Written, as_rollouts
from understudy.policy import Policy
from understudy.protocols import Expert, Task
from understudy.randomness import generator
from understudy.specs import Spec, build
from understudy.types import Prompt, Rollout


class RecordedExpert(Expert):
    """Traces as rollouts. Their behavior log-probs are not known: nan, which no row that may use them reads.

    How a trace becomes tokens: written.as_rollouts.
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
        written: list[Written] = []
        for p in prompts:
            traces = self.task.traces(p)
            if len(traces) < samples:
                hint = f"prompt {p.key} has {len(traces)} recorded completions: use at most that many"
                raise UserError("samples_per_prompt", samples, hint)
            order = generator("recorded", seed, p.key).permutation(len(traces))
            written += [Written(p, s, traces[int(order[s])]) for s in range(samples)]
        return as_rollouts(self.student, written, max_new_tokens)


@dataclass(frozen=True)
class _NoOptions:
    pass
