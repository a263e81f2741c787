"""`self`: the student as its own expert, with a context in its prompt that the student does not see.

On-policy self-distillation with the reference answer (OPSD, arXiv 2601.18734) or a demonstration (SDFT, 2601.19897) in
the expert's prompt. SDFT's expert is a moving average of the student; here it is the student at its start, or itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from understudy.errors import UserError
from understudy.experts.local import LocalExpert
from understudy.policy import Policy
from understudy.policy.signals import HiddenSignal
from understudy.protocols import Stepper, Task
from understudy.specs import SELF, build, check, option, parse_spec
from understudy.types import Prompt, Rollout

WORDS = "Reference answer:\n{context}\n\n"
AFTER = (
    "\n\nA reference answer, for you alone:\n{context}\n\nGive your own answer, with the reasoning that leads to it."
)
"""Before a plain prompt; at the end of the last user turn of a chat."""


@dataclass(frozen=True)
class SelfConfig:
    context: str = "gold"
    """What the expert's prompt adds: gold (the task's answer), demonstration (a recorded completion), or a column of
    the user's rows, such as hint."""
    frozen: bool = True
    """true: the student before training. false: the student as it is, in the same memory."""
    style: str = option("words", choices=("words", "bare"))
    """How it stands in front of a plain prompt: words (after "Reference answer:") or bare (a line of its own)."""

    def __post_init__(self) -> None:
        check(self, "expert")


def parse_self(text: str) -> SelfConfig:
    """`self:context=gold,frozen=false`. UserError: unknown option."""
    return build(SelfConfig, parse_spec(text, "expert").args, "expert")


def with_context(prompt: Prompt, task: Task, config: SelfConfig) -> Prompt:
    """The prompt as the expert reads it, not encoded. UserError: the task has no such context for it."""
    context = _context(prompt, task, config.context)
    if not prompt.messages:
        before = WORDS.format(context=context) if config.style == "words" else f"{context}\n"
        return replace(prompt, text=before + prompt.text, ids=())
    *turns, (role, content) = prompt.messages
    last = (role, content + AFTER.format(context=context))
    return replace(prompt, messages=(*turns, last), ids=())


def _context(prompt: Prompt, task: Task, name: str) -> str:
    if name == "gold":
        text = task.gold(prompt)
    elif name == "demonstration":
        text = task.demonstration(prompt) or next(iter(task.traces(prompt)), "")
    else:
        row = prompt.data.get("row", {})
        if name not in row:
            known = ", ".join(["gold", "demonstration", *row])
            raise UserError("expert.context", name, f"prompt {prompt.key} has no such column; it has {known}")
        text = str(row[name])
    if not text.strip():
        raise UserError("expert.context", name, f"prompt {prompt.key} has none: use context=gold, or another task")
    return text


class SelfExpert(LocalExpert):
    """`policy` with the context in its prompts. Who calls it gives the student's prompts."""

    own_prompts = True

    def __init__(
        self, policy: Policy, task: Task, config: SelfConfig, temperature: float = 1.0, top_p: float = 1.0
    ) -> None:
        """policy: the student itself (frozen=false), or what it was before training."""
        super().__init__(policy, temperature, top_p)
        self.task, self.config = task, config
        self.name = f"{SELF}:context={config.context},frozen={str(config.frozen).lower()}"
        reach = "it reads what the student cannot see: only what is common to all contexts can be learned, and what the"
        self.provenance |= {"kind": SELF, "config": dict(vars(config)), "mechanism": f"{reach} prompt decides"}

    def seen(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts as it reads them, encoded."""
        different = {p.key: with_context(p, self.task, self.config) for p in prompts}
        encoded = dict(zip(different, self.policy.encode(list(different.values()))))
        return [encoded[p.key] for p in prompts]

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> int:
        """Those of the context too."""
        return super().prompt_tokens(self.seen(prompts))

    def _theirs(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        return [replace(r, prompt=p) for r, p in zip(rollouts, self.seen([r.prompt for r in rollouts]))]

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        return super().start(self.seen(prompts))

    def _draw(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, greedy: bool
    ) -> list[Rollout]:
        self.policy.check_room(self.seen(prompts), max_new_tokens)
        return super()._draw(prompts, samples, seed, max_new_tokens, greedy)

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return super().score(self._theirs(rollouts))

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return super().distribution(self._theirs(rollouts))

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> HiddenSignal:
        return super().signal([self._theirs(pack) for pack in packs])

    def keep_bytes(self, top_k: int = 0) -> int:
        """0 for a live one: what it says changes with every update."""
        return super().keep_bytes(top_k) if self.config.frozen else 0

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        return super().keep(self._theirs(rollouts), top_k)
