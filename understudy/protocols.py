"""What others implement: `Expert`, `Stepper`, `Supervision`, `Task`. Each member has a default, or refuses in words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from understudy.errors import UserError
from understudy.types import MATCHED, Prompt, Rollout, Signal

if TYPE_CHECKING:
    from torch import Tensor

    from understudy.specs import Spec

CAPABILITIES = frozenset({"sample", "score", "top_k", "distribution", MATCHED})
"""`top_k`: the log-probs of its most likely tokens at every position. `distribution` means the whole vocabulary, and
implies it: a server's top-k is not a distribution. `matched`: of an expert of another family, distributions as far as
its vocabulary and the student's can be compared."""
Arrived = Callable[[int, "dict[str, Tensor]"], None]
"""arrived(index of the rollout, its entry): called for each one as soon as it is known."""

ENTRIES = 64  # completions that `Expert.entries` scores at a time


class Stepper(ABC):
    """Decoding in progress, for several rows at once. Rows leave when they end; the others keep their order."""

    @abstractmethod
    def next_logits(self) -> Tensor:
        """(B_live, V) log-probs (nats) of each live row's next token, up to a constant per row."""

    @abstractmethod
    def advance(self, tokens_B: Tensor) -> None:
        """Append tokens_B (B_live,) to the live rows."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with these of the live rows only: increasing numbers (B_kept,)."""


class TableSignal(Signal):
    """types.Signal from (N, V) log-probs."""

    def __init__(self, logp_NV: Tensor) -> None:
        self.logp_NV = logp_NV

    def table(self, at: slice) -> Tensor:
        return self.logp_NV[at].clone()

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        return self.logp_NV[at].gather(-1, ids_nK.to(self.logp_NV.device))

    def taken(self, rows_M: Tensor) -> TableSignal:
        return TableSignal(self.logp_NV[rows_M.to(self.logp_NV.device)])

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        best = self.logp_NV[at].topk(min(k, self.logp_NV.shape[-1] - 1), -1)
        return best.indices, best.values


class Supervision:
    """What an expert says about the whole distributions at a batch of rollouts, computed per micro-batch."""

    expert: Expert | None = None
    """None: kept or made up, there is no expert at work."""

    def __init__(self, expert: Expert, rollouts: Sequence[Rollout]) -> None:
        self.expert, self.rollouts = expert, rollouts

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        """At the completion tokens of these rollouts, pack by pack (policy.padding): numbers in `rollouts`."""
        assert self.expert is not None
        return self.expert.signal([[self.rollouts[i] for i in pack] for pack in packs])

    def apart(self, device: Any) -> bool:
        """Whether `signal` computes on another device than `device`, so that it costs the student's work no time."""
        return self.expert is not None and self.expert.apart(device)

    def finish(self) -> None:
        """Wait for what is still under way, and raise its error. Called after the last `signal` of an update."""

    def stop(self) -> None:
        """Start nothing more: the update was given up."""


class Expert:
    """An expert (= teacher): the policy that a student imitates. What it cannot do it refuses with `hint`."""

    name: str
    capabilities: frozenset[str] = frozenset()
    """Subset of CAPABILITIES."""
    provenance: dict[str, Any]
    """How it was made, and by which mechanism it is, or is not, in the student's reach. Kept with the run."""
    tokenizer: Any
    vocabulary: int
    """Size V of its distributions."""
    end_ids: tuple[int, ...]
    """Tokens that end a completion."""
    hint: str = ""
    """What to do about what it cannot do: the end of every refusal."""
    field: str = "expert"
    """Name of the option that chose it, for errors."""
    policy: Any = None
    """The model in this process that it is (policy.Policy), or None."""
    own_prompts: bool = False
    """Whether it reads other prompts than the student's: then only its methods, not its `policy`, answer them."""
    held_out: bool = True
    """Whether it can answer held-out prompts; False = it is not evaluated there."""
    about: str = ""
    """One line on how it is used, for the user; "" where that needs no word."""
    reads_its_own: bool = False
    """Whether it reads prompts in its own rendering (tokenizer and chat template), not the student's."""
    several: Mapping[str, Expert] = MappingProxyType({})
    """Of several experts as one: each by its name."""
    noise: float | None = None
    """Largest mean difference, in nats per token, between two scores of the same tokens; None = not compared."""

    def for_student(self, student: Any) -> Expert:
        """This expert in the tokens of `student` (a policy)."""
        return self

    def assigned(self, prompts: Sequence[Prompt]) -> list[tuple[str, Expert, list[int]]]:
        """(name, expert, numbers of the prompts that it answers); one expert alone answers all, and its name is ""."""
        return [("", self, list(range(len(prompts))))]

    def apart(self, device: Any) -> bool:
        """Whether it scores on a device of this machine that is not `device` (a torch.device)."""
        return False

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> int:
        """Tokens that it reads of these prompts, each prompt once."""
        return sum({p.key: len(p.ids) for p in prompts}.values())

    # -- samples ------------------------------------------------------------------------------------------------

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        """One row per prompt, nothing written yet. Advance by a student's tokens to continue from its prefix."""
        self.refuse("continue a prefix")

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """`samples` completions of each prompt, prompt-major.

        A completion is a function of (seed, prompt key, sample index) alone, never of the batch.
        """
        self.refuse("be sampled")

    def has_greedy(self) -> bool:
        """Whether it has a greedy decoder."""
        return False

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        """One completion of each prompt, the most likely token at each position. Only if `has_greedy`."""
        self.refuse("decode greedily")

    # -- scores -------------------------------------------------------------------------------------------------

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T,) float32: log expert(y_t | x, y_<t), in nats."""
        self.refuse("score")

    def spans(self, rollouts: Sequence[Rollout]) -> list[Tensor] | None:
        """Per rollout (T,): number of the span of text that each token belongs to, in order; -1 = it has no score.

        None: every token is scored by itself. Else `score` gives a span's log-prob at its last token, and 0 before.
        """
        return None

    def alignment(self, rollouts: Sequence[Rollout]) -> dict[str, float] | None:
        """Of an expert with another tokenizer: shares of these that are one token on both sides, or lost."""
        return None

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T, V) float32 log-probs, in nats."""
        self.refuse("give whole distributions")

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        """What it says at the completion tokens of one micro-batch, pack by pack (policy/padding.py).

        Here: its whole distributions at all of them at the same time, which is right for small vocabularies.
        """
        import torch  # what is checked before anything is loaded imports this module, and needs no torch

        return TableSignal(torch.cat(self.distribution([r for pack in packs for r in pack])))

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        """Per rollout {"logp": (T,)}, with k also {"top_ids": (T, k), "top_logp": (T, k)}: what a cache keeps."""
        out: list[dict[str, Tensor]] = []
        for at in range(0, len(rollouts), ENTRIES):
            part = rollouts[at : at + ENTRIES]
            for r, x in zip(part, self.distribution(part) if k else self.score(part)):
                out.append(_top_entry(r, x.cpu(), k) if k else {"logp": x.float().cpu()})
                if arrived:
                    arrived(len(out) - 1, out[-1])
        return out

    def supervise(self, rollouts: Sequence[Rollout], top_k: int = 0) -> Supervision:
        """Its distributions at these rollouts, for labels. top_k: only those of its own top k tokens are needed."""
        return Supervision(self, rollouts)

    def keep_bytes(self, top_k: int = 0) -> int:
        """At most so many bytes per token is what `keep` returns; 0 = it cannot: it is asked again every time."""
        return 0

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        """Per rollout (T, ...) tensors from which experts.entries.Kept makes the same supervision."""
        self.refuse("be kept")

    def keep_shared(self) -> dict[str, Tensor]:
        """What that needs beside them, once for all rollouts."""
        return {}

    def refuse(self, what: str) -> NoReturn:
        """UserError: this expert cannot `what`."""
        raise UserError(self.field, self.name, f"cannot {what}" + (f": {self.hint}" if self.hint else ""))


def _top_entry(rollout: Rollout, table_TV: Tensor, k: int) -> dict[str, Tensor]:
    """What a server would tell of a distribution: the log-probs of the tokens and the top k."""
    best = table_TV.topk(min(k, table_TV.shape[-1] - 1), -1)
    acted = table_TV.gather(-1, best.indices.new_tensor(rollout.ids).unsqueeze(-1)).squeeze(-1)
    return {"logp": acted.float(), "top_ids": best.indices.int(), "top_logp": best.values.float()}


class Task(ABC):
    """Streams of prompts, a verifier, and what a model made from scratch needs."""

    name: str
    splits: tuple[str, ...] = ("train", "test", "ood")
    """Names of the prompt streams; test and ood share no problem with train."""
    max_new_tokens: int
    """Room that the longest sensible completion needs, in tokens of the task's own tokenizer."""
    room: str = "usual"
    """Where max_new_tokens comes from: given (an option of the task), usual (its longest answers), unknown."""
    keywords: tuple[str, ...] = ()
    """Strings whose frequency in completions is informative; the report plots them."""
    thinking: str = "think"
    """Name of the tags around a thought, which is not graded; "" = there are none."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; those of one token also stop the sampler (Policy.add_stop_tokens)."""
    passes: float = 1.0
    """The reward from which a completion counts as solved: for pass@k, and for what weight=passed keeps."""
    verified: bool = True
    """Whether `verify` tells right from wrong on train prompts; False = there are no rewards, and nothing is graded."""

    @abstractmethod
    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """Items start..start+n-1 of the infinite stream (task, split, seed). UserError: unknown split."""

    def size(self, split: str) -> int | None:
        """Distinct prompts of a split; None = an endless stream. UserError: unknown split."""
        return None

    def graded(self, split: str) -> bool:
        """Whether `verify` tells right from wrong on the prompts of a split."""
        return self.verified

    def leave_out(self, split: str, prompts: Sequence[Prompt], why: str) -> bool:
        """Draw these prompts of a split no more, and count them as left out; False: the task keeps its prompts."""
        return False

    def fields(self, prompt: Prompt) -> Mapping[str, Any]:
        """What is known of a prompt, by which one of several experts may be chosen: `task`, the name of its task, its
        data, and the columns of its row."""
        row = prompt.data.get("row")
        data = {name: value for name, value in prompt.data.items() if name != "row"}
        return {"task": self.name} | data | (dict(row) if isinstance(row, Mapping) else {})

    def part(self, name: str) -> Task:
        """Of a mixture, its task of this name; else itself."""
        return self

    def about(self) -> str:
        """One line on what was read and how it is used, for the user; "" where the name says it all."""
        return ""

    def digest(self) -> str:
        """A hash of the data behind the task: the same name with another digest is another task. "" = none is read."""
        return ""

    @abstractmethod
    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        """The reward, in [0, 1]; of most tasks 1.0 or 0.0. Never raises, whatever a model wrote."""

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """`verify` of many at once."""
        return [self.verify(*completion) for completion in completions]

    def verify_all(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with their rewards; None for prompts that are not graded."""
        rewards = self.verify_many([(r.prompt, r.text, r.ended) for r in rollouts])
        return [replace(r, reward=reward) for r, reward in zip(rollouts, rewards)]

    def gold(self, prompt: Prompt) -> str:
        """A completion that the verifier accepts. UserError if the problem has none."""
        raise UserError("task", self.name, f"has no gold answer for prompt {prompt.key!r}")

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        """Completions that experts have written for a train prompt; () if there are none."""
        return ()

    def demonstration(self, prompt: Prompt) -> str:
        """A completion of a prompt of any split, to measure a loss on; "" = none is known."""
        return ""

    def recorded_texts(self, most: int) -> Sequence[str]:
        """Up to `most` of the completions that `traces` gives, evenly over the train prompts; () if none were read."""
        return ()

    def tokenizer(self) -> Any:
        """PreTrainedTokenizerFast for models made from scratch."""
        raise UserError("task", self.name, "has no tokenizer of its own: give a model as the student")

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """A programmatic expert of this task. UserError: unknown name or option."""
        raise UserError("expert", spec.text, f"unknown: {self.name} has no programmatic expert; give a model")

    def check(self, n: int = 8) -> None:
        """UserError unless the verifier accepts the gold answers of the first `n` prompts of every split."""
        for split in filter(self.graded, self.splits):
            size = self.size(split)
            for prompt in self.prompts(split, n if size is None else min(n, size), seed=0):
                gold = self.gold(prompt)
                if self.verify(prompt, gold, True) != 1.0:
                    hint = f"its verifier rejects its own gold {gold!r} for {split} prompt {prompt.key!r}"
                    raise UserError("task", self.name, hint)
