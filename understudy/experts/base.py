"""What an expert (= teacher) is: whoever a student imitates. Its capabilities are stated, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from understudy.types import Prompt, Rollout

if TYPE_CHECKING:
    from torch import Tensor

CAPABILITIES = frozenset({"sample", "score", "top_k", "distribution"})
"""`top_k`: the log-probs of its most likely tokens at every place. `distribution` means the whole vocabulary, and
implies it: a server's top-k is not a distribution."""


class Stepper(Protocol):
    """Decoding in progress, for some rows at once. Rows leave when they end; the others keep their order."""

    def next_logp(self) -> Tensor:
        """(B_live, V) log-probs (nats) of each live row's next token."""
        ...

    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        """Append tokens_B (B_live,) to the live rows, then keep only the rows where keep_B is True."""
        ...


@runtime_checkable
class Expert(Protocol):
    name: str
    capabilities: frozenset[str]
    """Subset of CAPABILITIES."""
    provenance: dict[str, Any]
    """How it was made, and by which mechanism it is, or is not, in the student's reach. Kept with the run."""
    tokenizer: Any

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        """One row a prompt, nothing written yet. Push a student's tokens to continue from its prefix."""
        ...

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """`samples` completions of each prompt, prompt-major.

        A completion is a function of (seed, prompt key, sample index) alone, never of the batch.
        """
        ...

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T,) float32: log expert(y_t | x, y_<t), in nats."""
        ...

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T, V) float32 log-probs, in nats."""
        ...
