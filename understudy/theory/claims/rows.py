"""The claim about the program: rows of the method table on tabular softmax students.

The kernels, labels, rollouts and updates are the production ones (tabular.py); only the network is a table.
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
from understudy.theory.families.instance import Bandit
from understudy.theory.families.trap import Trap
from understudy.theory.information import Info
from understudy.theory.production import kl_expert_student, kl_student_expert
from understudy.theory.scalars import Array
from understudy.theory.tabular import FreeTable, MixtureTable, SmoothedTable, TablePolicy, expected_flow, train_row

PLAYABLE = (True, True, False, False)
SAMPLED = 0.06  # tolerance of training on samples: 4 times the standard deviation seen over seeds
SETTINGS = {"schedule": "linear", "adam_beta2": 0.99, "grad_clip": 0.0}


def rows(o: Options) -> Result:
    """Family F and Example T trained by the rows opd, opd_full and sft."""
    torch.set_num_threads(1)
    curves: dict[str, Any] = {"family": {}, "trap": {}, "kappa": o.value("kappa", 0.1)}
    checks = [*_family_rows(o, curves), *_trap_rows(o, curves), *_finite_data_rows(o)]
    return Result(checks, curves)


def _family_rows(o: Options, curves: dict[str, Any]) -> list[Row]:
    """A softmax student on {0, 1} ends at P(theta) = 1 - kappa for every eps: exact flow, then sampled training."""
    theta, pick, out = np.array([0, 1, 1, 0]), np.arange(4), []
    kappa = o.positive_kappa(0.1)
    families = {eps: FamilyF(4, eps, kappa) for eps in o.grid("eps", (0.01, 1e-6))}
    for eps, family in families.items():
        for method in ("opd", "opd_full"):
            flow = expected_flow(method, FreeTable(4, PLAYABLE), family.law, family.expert(theta))
            worst = np.abs(flow.probabilities()[pick, theta] - (1 - kappa)).max()
            name = f"row {method}, Family F, eps = {eps:g}: largest |P(theta) - (1 - kappa)|, exact expectation"
            out.append(equal(name, 0.0, worst, 1e-6, headline=method == "opd" and eps == 0.01))
    for eps, family in families.items():
        settings = SETTINGS | {"lr": 0.1, "updates": 120, "prompts_per_update": 16, "samples_per_prompt": 16}
        values = _trained("opd", FreeTable(4, PLAYABLE), family.bandit(theta), o.seed, settings)
        curves["family"][eps] = values
        name = f"row opd trained on its own samples, Family F, eps = {eps:g}: V against 1 - kappa"
        out.append(equal(name, 1 - kappa, values[-1], SAMPLED, headline=eps == 0.01))
    return out


def _trained(method: str, student: nn.Module, b: Bandit, seed: int, settings: dict[str, Any]) -> list[float]:
    """Train a student by sampling; its value before every update and after the last one."""
    values: list[float] = []

    def watch(step: int, policy: TablePolicy) -> None:
        values.append(float(b.value(policy.probabilities())))

    train_row(method, student, b.mu, b.expert, b.reward, watch, seed=seed, **settings)
    return values


def _trap_rows(o: Options, curves: dict[str, Any]) -> list[Row]:
    """Forward- and reverse-KL projections on the hull of Example T's class, by training and by bisection."""
    b, out = Trap().bandit(), []

    def policy(logit_share: float) -> Array:
        share = 1 / (1 + math.exp(-logit_share))
        return np.asarray((1 - share) * b.students[0] + share * b.students[1])

    for method, side, divergence in (("sft", "forward", kl_expert_student), ("opd", "reverse", kl_student_expert)):

        def loss(logit_share: float, divergence: Any = divergence) -> float:
            return float(divergence(policy(logit_share), b.expert)[0])

        best = minimize_scalar(loss, bounds=(-25, 25), method="bounded", options={"xatol": 1e-10})
        exact = float(b.value(policy(best.x)))
        flow = expected_flow(method, MixtureTable(b.students), b.mu, b.expert)
        name = f"row {method}, Example T: V against the {side}-KL projection, exact expectation"
        out.append(equal(name, exact, float(b.value(flow.probabilities())), 1e-6, headline=True))
        settings = SETTINGS | {"lr": 0.3, "updates": 80, "prompts_per_update": 4, "samples_per_prompt": 32}
        values = _trained(method, MixtureTable(b.students), b, o.seed, settings)
        curves["trap"][method] = (exact, values)
        out.append(equal(f"row {method} trained on samples, Example T: the same", exact, values[-1], SAMPLED))
    return out


def _finite_data_rows(o: Options) -> list[Row]:
    """The bottleneck through the real rows. 256 contexts are 256 repetitions; what counts is each one's best bit."""
    l, n, family = 256, 2048, FamilyF(256, 0.05, 0.2)
    theta, out = o.rng("rows").integers(0, 2, l), []
    cases: tuple[tuple[str, nn.Module, Info, dict[str, Any]], ...] = (
        ("sft", SmoothedTable(l), Info.OFF_S, {"updates": 8, "prompt_pool": n}),  # 8 passes over n expert samples
        ("opd_full", FreeTable(l, PLAYABLE), Info.ON_G, {"updates": 1}),  # one pass over n of the student's own
    )
    expert, reward = family.expert(theta), family.reward(theta)
    for method, student, info, more in cases:
        settings = {"lr": 0.3, "prompts_per_update": n, "grad_clip": 0.0, "seed": o.seed} | more
        bits = train_row(method, student, family.law, expert, reward, **settings).probabilities()[:, :2]
        tie = np.isclose(bits[:, 0], bits[:, 1], rtol=1e-9)
        wrong = np.where(tie, 0.5, bits.argmax(1) != theta)
        error = float(wrong.std() / math.sqrt(l))
        name = f"row {method}, l = {l}, n = {n}, eps = .05, kappa = .2: regret of the best bits"
        out.append(monte_carlo(name, family.regret(info, n), float(wrong.mean()), error, headline=True))
    return out
