"""Tabular softmax students for the rows of the method table, trained by the production code.

A prompt is a context x, a completion is one action. `train_row` uses the configuration, rollouts, labels and update of
a training; `expected_flow` gives the same loss kernel every action with its exact probability, so that it must converge
to the exact projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from understudy.config import TrainConfig, resolve
from understudy.methods.kernel import Entropies, Losses, token_losses
from understudy.methods.losses import Objective
from understudy.policy.sampling import draw
from understudy.protocols import Expert, Stepper, TableSignal, Task
from understudy.randomness import generator
from understudy.theory.production import log_table
from understudy.theory.scalars import Array
from understudy.training.acting import Actor
from understudy.training.labels import objective
from understudy.training.rollouts import RolloutSource
from understudy.training.update import learning_rate, update
from understudy.types import Batch, Ledger, Prompt, Rollout


class FreeTable(nn.Module):
    """Free softmax logits per context on the actions where `playable` (Y,) is true; probability 0 elsewhere."""

    def __init__(self, contexts: int, playable: Sequence[bool]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(contexts, len(playable), dtype=torch.float64))
        self.mask = torch.tensor([0.0 if p else -torch.inf for p in playable]).double()

    def forward(self) -> Tensor:
        """(X, Y) log-probs."""
        return (self.logits + self.mask).log_softmax(-1)


class BlindTable(FreeTable):
    """One row of free softmax logits for every context: a student that cannot see what the expert sees."""

    def __init__(self, contexts: int, actions: int) -> None:
        super().__init__(1, (True,) * actions)
        self.contexts = contexts

    def forward(self) -> Tensor:
        """(X, Y) log-probs, all rows the same."""
        return super().forward().expand(self.contexts, -1)


class SmoothedTable(nn.Module):
    """Family F's students smoothed: mass tau > 0 shared by '+' and '-', free softmax on {0, 1}. SFT needs this."""

    def __init__(self, contexts: int, tau: float = 0.01) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(contexts, 2, dtype=torch.float64))
        self.tau = tau

    def forward(self) -> Tensor:
        playable = self.logits.log_softmax(-1) + float(np.log1p(-self.tau))
        return torch.cat([playable, torch.full_like(playable, float(np.log(self.tau / 2)))], -1)


class MixtureTable(nn.Module):
    """Softmax weights over fixed students (K, X, Y): the hull of a finite class, trained by gradient."""

    def __init__(self, students: Array) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(len(students), dtype=torch.float64))
        self.log_students = log_table(students)

    def forward(self) -> Tensor:
        return (self.logits.log_softmax(-1)[:, None, None] + self.log_students).logsumexp(0)


class TablePolicy:
    """A table with the interface of `policy.Policy` that rollouts, labels and updates read."""

    pad_id = 0
    end_ids: tuple[int, ...] = ()  # one action and stop: no end token
    shards = None  # one process holds it whole
    packs = False

    def __init__(self, model: Callable[[], Tensor], name: str = "student") -> None:
        self.model, self.name, self.device = model, name, torch.device("cpu")
        self.vocabulary: int = int(self.log_probs().shape[1])

    def trained(self) -> dict[str, Tensor]:
        return dict(cast(nn.Module, self.model).named_parameters())

    def losses(
        self, batch: Batch, goal: Objective, scale_N: Tensor, chunk: int = 0, entropies: Entropies | None = None
    ) -> Losses:
        return token_losses(self.hidden(batch), self.head, batch, goal, scale_N, chunk, entropies)

    @torch.no_grad()
    def log_probs(self) -> Tensor:
        return self.model()

    def probabilities(self) -> Array:
        return np.asarray(self.log_probs().exp().numpy())

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [p.encoded((int(p.data["x"]),)) for p in prompts]

    def check_room(self, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
        """One token always fits."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [str(i[0]) for i in ids]

    def start(self, prompts: Sequence[Prompt]) -> _Step:
        return _Step(self.log_probs()[[p.ids[0] for p in prompts]])

    def hidden(self, batch: Any) -> Tensor:
        """(N, Y) log-probs of each row's context; `head` leaves them as they are."""
        return self.model()[batch.input_ids_BS[:, 0]]

    @staticmethod
    def head(hidden: Tensor) -> Tensor:
        return hidden

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        table = self.log_probs()
        return [table[r.prompt.ids[0], list(r.ids)] for r in rollouts]

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        table = self.log_probs()
        return [table[r.prompt.ids[0]][None] for r in rollouts]


class TableExpert(TablePolicy, Expert):
    """A fixed table as an expert."""

    capabilities = frozenset({"sample", "score", "distribution"})

    def __init__(self, table: Array) -> None:
        super().__init__(lambda: log_table(table), "table")
        self.provenance = {"made": "a table of probabilities (theory lab)"}
        self.tokenizer = None

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return draw(self.start, self.decode, self.end_ids, prompts, samples, seed, max_new_tokens, "expert")


@dataclass(frozen=True)
class TableTask(Task):
    """Prompts are contexts drawn from mu, the reward is a table."""

    mu: Array
    reward: Array
    max_new_tokens: int = 1

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        def context(i: int) -> int:
            return int(generator("context", seed, i).choice(len(self.mu), p=self.mu))

        # the key names the draw, not the context: samples at one context must be independent
        drawn = [(i, context(i)) for i in range(start, start + n)]
        return [Prompt(f"{split}{i}", str(x), {"x": x}) for i, x in drawn]

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return float(self.reward[prompt.ids[0], int(text)])


def train_row(
    method: str,
    student: nn.Module,
    mu: Array,
    expert: Array,
    reward: Array,
    watch: Callable[[int, TablePolicy], None] | None = None,
    **settings: Any,
) -> TablePolicy:
    """Train a table by the row `method`. Caches stay in memory, nothing is evaluated.

    settings: fields of TrainConfig. watch(step, policy) is called before every update and after the last one.
    """
    config = resolve(TrainConfig(method=method, student="table", expert="table", max_new_tokens=1, **settings))
    policy, teacher = TablePolicy(student), TableExpert(expert)
    table_policy: Any = policy
    actor = Actor(config, TableTask(mu, reward), table_policy, lambda: teacher, lambda: table_policy)
    source = RolloutSource(actor, _Memory(), Ledger())
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=config.lr, betas=(0.9, config.adam_beta2), weight_decay=config.weight_decay
    )
    for step in range(config.updates):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        if watch:
            watch(step, policy)
        update(cast(Any, policy), optimizer, source.labelled(step), config)
    if watch:
        watch(config.updates, policy)
    return policy


def expected_flow(
    method: str, student: nn.Module, mu: Array, expert: Array, steps: int = 600, lr: float = 0.2
) -> TablePolicy:
    """Adam on a row's loss kernel in exact expectation over contexts and actions (no sampling noise).

    Every (x, y) is one row of a Batch, weighted by its probability under the row's behavior policy times the row's
    weight. For rows with behavior expert or student and a token or distribution target.
    """
    config = resolve(TrainConfig(method=method, student="table", expert="table", max_new_tokens=1))
    goal, policy = objective(config), TablePolicy(student)
    log_expert, contexts = log_table(expert), expert.shape[0]
    grid = torch.cartesian_prod(torch.arange(contexts), torch.arange(expert.shape[1]))
    x_N, y_N = grid[:, 0], grid[:, 1]
    mu_N = torch.from_numpy(mu)[x_N]
    optimizer = torch.optim.Adam(student.parameters(), lr=lr, betas=(0.5, 0.9))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        log_student = policy.log_probs()
        behavior_N = (log_expert if config.behavior == "expert" else log_student)[x_N, y_N]
        acted = (behavior_N > -torch.inf) & (mu_N > 0)
        x, y, behavior = x_N[acted], y_N[acted], behavior_N[acted]
        weight = mu_N[acted] * behavior.exp()
        if config.weight == "log_ratio":
            weight = weight * (log_expert - log_student)[x, y]
        inputs = torch.stack([x, y], 1)
        batch = Batch(
            input_ids_BS=inputs,
            attention_mask=None,
            position_ids_BS=torch.zeros_like(inputs),
            place_N=torch.arange(len(x)),
            target_ids_N=y,
            row_N=torch.arange(len(x)),
            weight_N=weight,
            behavior_logp_N=behavior,
            signal=TableSignal(log_expert[x]),
        )
        optimizer.zero_grad()
        policy.losses(batch, goal, torch.ones(len(x))).total.backward()
        optimizer.step()
    return policy


class _Step(Stepper):
    """One decoding step from a table."""

    def __init__(self, logp_BV: Tensor) -> None:
        self.logp_BV = logp_BV

    def next_logits(self) -> Tensor:
        return self.logp_BV

    def advance(self, tokens_B: Tensor) -> None:
        """A completion is one token."""

    def keep(self, rows: Tensor) -> None:
        self.logp_BV = self.logp_BV[rows]


class _Memory:
    """A run directory's cache, in memory."""

    def __init__(self) -> None:
        self.tensors: dict[str, dict[str, Tensor]] = {}

    def cache(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if name not in self.tensors:
            self.tensors[name] = make()
        return self.tensors[name]

    def has(self, name: str) -> bool:
        return name in self.tensors

    def describe(self, **facts: object) -> None:
        """Nothing to keep."""
