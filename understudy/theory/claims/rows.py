"""The claim that ties the lab to the program: the real rows of the algorithm table on tabular softmax
students.

The kernels, labels, rollouts and updates are the production ones (see tabular.py); only the network is a
table.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from understudy.theory.claims.claim import Options, Result, Row, equal, monte_carlo
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.trap import Trap
from understudy.theory.information import Info
from understudy.theory.production import kl_expert_student, kl_student_expert
from understudy.theory.scalars import Array
from understudy.theory.tabular import FreeTable, MixtureTable, SmoothedTable, TablePolicy, expected_flow, train_row

PLAYABLE = (True, True, False, False)
SAMPLED = 0.06  # tolerance of training on samples: 4 times the standard deviation seen over seeds


def rows(o: Options) -> Result:
    """Family F and Example T trained by the rows opd, opd_full and sft."""
    torch.set_num_threads(1)
    curves: dict[str, Any] = {"family": {}, "trap": {}, "kappa": o.value("kappa", 0.1)}
    checks = [*_family_rows(o, curves), *_trap_rows(o, curves), *_finite_data_rows(o)]
    return Result(checks, curves)


def _family_rows(o: Options, curves: dict[str, Any]) -> list[Row]:
    """A softmax student on {0, 1} ends at P(theta) = 1 - kappa whatever eps is: exact flow, then sampled
    training.
    """
    theta, pick, out = np.array([0, 1, 1, 0]), np.arange(4), []
    kappa = o.positive_kappa(0.1)
    for eps in o.grid("eps", (0.01, 1e-6)):
        family = FamilyF(4, eps, kappa)
        for method in ("opd", "opd_full"):
            flow = expected_flow(method, FreeTable(4, PLAYABLE), family.law, family.expert(theta))
            worst = np.abs(flow.probabilities()[pick, theta] - (1 - kappa)).max()
            name = f"row {method}, Family F, eps = {eps:g}: largest |P(theta) - (1 - kappa)|, exact expectation"
            out.append(equal(name, 0.0, worst, 1e-6, headline=method == "opd" and eps == 0.01))
    for eps in o.grid("eps", (0.01, 1e-6)):
        family = FamilyF(4, eps, kappa)
        values: list[float] = []
        curves["family"][eps] = values

        def watch(step: int, policy: TablePolicy, family: FamilyF = family, values: list[float] = values) -> None:
            values.append(float(family.law @ (policy.probabilities() * family.reward(theta)).sum(-1)))

        train_row(
            "opd",
            FreeTable(4, PLAYABLE),
            family.law,
            family.expert(theta),
            family.reward(theta),
            watch,
            lr=0.1,
            updates=120,
            prompts_per_update=16,
            samples_per_prompt=16,
            schedule="linear",
            adam_beta2=0.99,
            grad_clip=0.0,
            seed=o.seed,
        )
        name = f"row opd trained on its own samples, Family F, eps = {eps:g}: V against 1 - kappa"
        out.append(equal(name, 1 - kappa, values[-1], SAMPLED, headline=eps == 0.01))
    return out


def _trap_rows(o: Options, curves: dict[str, Any]) -> list[Row]:
    """Forward- and reverse-KL projections on the hull of Example T's class, by training and by bisection."""
    b = Trap().bandit()

    def policy(logit_share: float) -> Array:
        share = 1 / (1 + math.exp(-logit_share))
        return np.asarray((1 - share) * b.students[0] + share * b.students[1])

    out = []
    for method, divergence in (("sft", kl_expert_student), ("opd", kl_student_expert)):

        def loss(logit_share: float, divergence: Any = divergence) -> float:
            return float(divergence(policy(logit_share), b.expert)[0])

        best = minimize_scalar(loss, bounds=(-25, 25), method="bounded", options={"xatol": 1e-10})
        exact = float(b.value(policy(best.x)))
        side = "forward" if method == "sft" else "reverse"
        flow = expected_flow(method, MixtureTable(b.students), b.mu, b.expert)
        value = float(b.value(flow.probabilities()))
        name = f"row {method}, Example T: V against the {side}-KL projection, exact expectation"
        out.append(equal(name, exact, value, 1e-6, headline=True))
        values: list[float] = []
        curves["trap"][method] = (exact, values)

        def watch(step: int, policy: TablePolicy, values: list[float] = values) -> None:
            values.append(float(b.value(policy.probabilities())))

        train_row(
            method,
            MixtureTable(b.students),
            b.mu,
            b.expert,
            b.reward,
            watch,
            lr=0.3,
            updates=80,
            prompts_per_update=4,
            samples_per_prompt=32,
            schedule="linear",
            adam_beta2=0.99,
            grad_clip=0.0,
            seed=o.seed,
        )
        out.append(equal(f"row {method} trained on samples, Example T: the same", exact, values[-1], SAMPLED))
    return out


def _finite_data_rows(o: Options) -> list[Row]:
    """The bottleneck through the real rows. 256 contexts are 256 repetitions; what counts is each one's
    best bit.
    """
    l, n, family = 256, 2048, FamilyF(256, 0.05, 0.2)
    theta, out = o.rng("rows").integers(0, 2, l), []
    cases: tuple[tuple[str, nn.Module, Info, int, dict[str, Any]], ...] = (
        ("sft", SmoothedTable(l), Info.OFF_S, 8, {"prompt_pool": n}),  # 8 passes over n expert samples
        ("opd_full", FreeTable(l, PLAYABLE), Info.ON_G, 1, {}),  # one pass over n of the student's own
    )
    for method, student, info, updates, pool in cases:
        trained = train_row(
            method,
            student,
            family.law,
            family.expert(theta),
            family.reward(theta),
            lr=0.3,
            updates=updates,
            prompts_per_update=n,
            grad_clip=0.0,
            seed=o.seed,
            **pool,
        )
        bits = trained.probabilities()[:, :2]
        tie = np.isclose(bits[:, 0], bits[:, 1], rtol=1e-9)
        wrong = np.where(tie, 0.5, bits.argmax(1) != theta)
        error = float(wrong.std() / math.sqrt(l))
        name = f"row {method}, l = {l}, n = {n}, eps = .05, kappa = .2: regret of the best bits"
        out.append(monte_carlo(name, family.regret(info, n), float(wrong.mean()), error, headline=True))
    return out
