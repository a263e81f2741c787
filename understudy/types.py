"""The nouns: a prompt, a rollout, the batch that the loss kernels read, and the ledger of what a run has spent.

Shape suffixes used everywhere: _B batch rows, _T completion positions, _V vocabulary, _N flattened completion
tokens of a batch (row-major, padding removed), _G group, _S columns of a padded input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MATCHED = "matched"
"""A capability of experts, see protocols.CAPABILITIES."""


@dataclass(frozen=True)
class Prompt:
    """One problem. `key` is unique and stable (every random draw about this prompt derives from it)."""

    key: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    """(role, content) turns for the model's own chat template; () = `text` is what the model reads."""
    prefill: str = ""
    """With messages: text after the template's generation prompt, where the completion goes on."""
    opened: str = ""
    """Of an encoded prompt: the name of the tag (think) that the text the model reads has just opened; "" = none."""

    def encoded(self, ids: Sequence[int], opened: str = "") -> Prompt:
        return replace(self, ids=tuple(ids), opened=opened)


@dataclass(frozen=True)
class Rollout:
    """One completion with the exact token ids that were sampled.

    `ids` has the end token as its last id iff `ended`; a truncated completion never gets one.
    `behavior_logp[t]` is log behavior(ids[t] | prompt, ids[:t]) in nats, under the transforms it was sampled with; NaN
    where the actor does not report it (a black box, a server under a temperature): a loss that reads it stops the run.
    -inf for the one token of a completion that holds no text (`blank`).
    """

    prompt: Prompt
    sample: int
    ids: tuple[int, ...]
    behavior_logp: tuple[float, ...]
    ended: bool
    text: str
    actor: str
    reward: float | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise ValueError("a rollout needs at least one token")
        if len(self.ids) != len(self.behavior_logp):
            raise ValueError(f"{len(self.ids)} ids but {len(self.behavior_logp)} behavior log-probs")

    @property
    def blank(self) -> bool:
        """Whether a black box gave no text: a wrong answer, from which nothing is learned."""
        return self.behavior_logp == (-inf,)


class Signal(Protocol):
    """What an expert says at the N completion tokens of one batch, computed for a slice of them at a time.

    On any device: ids may be on another one.
    """

    def table(self, at: slice) -> Tensor:
        """(n, V) log-probs in nats of tokens `at`, float32 or float64; the caller may overwrite it, so may the next
        call."""

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        """(n, K) log-probs of these ids."""

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        """(ids, log-probs) of the expert's k most likely tokens, (n, k) each."""

    def taken(self, rows_M: Tensor) -> Signal:
        """Of these of the N tokens only, in this order."""

    def beside(self, student_nV: Tensor, at: slice, top_k: int, top_k_of: str) -> Tensor | None:
        """(n, V) log-probs to compare with the student's, coarsened to its or the expert's top k where top_k is given.

        None: to be coarsened by the kernel. An expert of another family answers by what both vocabularies share.
        """
        return None if top_k else self.table(at).to(student_nV)

    def own(self, beside_nV: Tensor, kept_m: Tensor | None, at: slice) -> Tensor:
        """(m, W) log-probs of the expert itself, for its entropy, at these of the tokens `at` (None: all).

        beside_nV: what `beside` or `ranked` gave for `at`. An expert of another family has fewer rows, and its tokens.
        """
        return beside_nV if kept_m is None else beside_nV[kept_m]

    def ranked(self, student_nV: Tensor, at: slice) -> Tensor:
        """(n, at least V) log-probs in falling order, whatever the tokens are."""
        return self.table(at).to(student_nV).sort(-1, descending=True).values


@dataclass(frozen=True)
class Batch:
    """What one update reads: teacher-forcing inputs and, per completion token, its target and its weight.

    The N completion tokens come row by row; place_N says where in the inputs, flattened to (B * S,), the state is that
    predicts each. Masks come from lengths, never from comparing ids with pad or end: a comparison drops a real end.
    """

    input_ids_BS: Tensor
    attention_mask: Tensor | None
    """None: causal. Or (B, 1, S, S), True where a column (third) sees a column (fourth)."""
    position_ids_BS: Tensor
    place_N: Tensor
    target_ids_N: Tensor  # the target token of each position, when the target is a token
    row_N: Tensor  # which rollout each token belongs to
    weight_N: Tensor  # of each token's loss
    behavior_logp_N: Tensor | None = None  # for the importance ratio; None = no ratio
    signal: Signal | None = None  # of the expert, when the target is a distribution
    watched_M: Tensor | None = None
    """On the CPU: numbers of the tokens, in order, whose entropies are logged. None: all."""
    reward_weight_N: Tensor | None = None
    """Of the policy gradient on the acted tokens that a distribution target has beside; None = none."""

    def __post_init__(self) -> None:
        n = len(self.place_N)
        for name in ("target_ids_N", "row_N", "weight_N", "behavior_logp_N", "reward_weight_N"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape[0] != n:
                raise ValueError(f"{name} has {tensor.shape[0]} entries for {n} tokens")

    @property
    def device(self) -> torch.device:
        return self.input_ids_BS.device

    @property
    def pulls(self) -> bool:
        """Whether any of its losses has a gradient."""
        reward_N = self.reward_weight_N
        return bool(self.weight_N.any()) or (reward_N is not None and bool(reward_N.any()))


@dataclass
class Ledger:
    """What a training has spent so far. Evaluation counts nothing but its own seconds."""

    expert_calls: int = 0
    """Completions that the expert sampled or scored."""
    expert_tokens_scored: int = 0
    """Tokens whose expert log-prob or distribution was requested."""
    expert_tokens_sampled: int = 0
    """Tokens that the expert sampled, counted when an update first uses them."""
    student_tokens_sampled: int = 0
    """Tokens that the student (or its base) sampled for training."""
    student_tokens_trained: int = 0
    """Completion tokens that went through an update."""
    expert_prompt_tokens: int = 0
    """Prompt tokens that the expert read to sample or score, once per prompt of an update."""
    student_prompt_tokens_sampled: int = 0
    """Prompt tokens that the student read to sample, likewise."""
    student_prompt_tokens_trained: int = 0
    """Prompt tokens in front of the completions of the updates, likewise."""
    base_tokens_scored: int = 0
    """Tokens, those of prompts included, that the frozen base read to score (signal=extrapolated)."""
    flops: float = 0.0
    """Multiplications and additions by `flops_of`."""
    updates: int = 0
    train_seconds: float = 0.0
    """Wall seconds of rolling out, labelling and updating."""
    eval_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def prompt_tokens(rollouts: Sequence[Rollout]) -> int:
    """Tokens of their prompts, each prompt once: its completions share them."""
    return sum({r.prompt.key: len(r.prompt.ids) for r in rollouts}.values())


def flops_of(spent: Mapping[str, Any], student: float, expert: float) -> float:
    """FLOPs of the tokens in a ledger, for models of so many weights (arXiv 2001.08361, section 2.1).

    A token read or written costs 2 N, a token trained 6 N, those of prompts too; attention over the context is left
    out. A program has no weights and costs 0; so does a server that does not say how large it is.
    """
    n = {name: float(spent.get(name) or 0) for name in LEDGER_AXES}
    read = n["student_tokens_sampled"] + n["student_prompt_tokens_sampled"] + n["base_tokens_scored"]
    trained = n["student_tokens_trained"] + n["student_prompt_tokens_trained"]
    asked = n["expert_tokens_sampled"] + n["expert_tokens_scored"] + n["expert_prompt_tokens"]
    return 2 * expert * asked + student * (2 * read + 6 * trained)


LEDGER_AXES = tuple(Ledger.__dataclass_fields__)
