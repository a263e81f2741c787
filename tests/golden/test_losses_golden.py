"""Loss and gradient-norm trajectories of five updates, pinned, so that a change of numerics is intended and explained.

A golden file pins bugs too. tests/identities and tests/unit/training/test_labels.py show that the losses are correct;
this file shows that they stay the same, however a batch is split. Nothing here is sampled: weights, rollouts and expert
tables come from NumPy's counter-based generator, so no token can change.

    python tests/golden/test_losses_golden.py      writes losses.json anew
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import STUDENT, Tables, config

from understudy.config import TrainConfig, resolve
from understudy.policy import Policy, load_policy
from understudy.tasks import load_task
from understudy.training.labels import Labelled
from understudy.training.train import update
from understudy.types import Prompt, Rollout

GOLDEN = Path(__file__).with_name("losses.json")
UPDATES = 5
CASES: dict[str, dict[str, Any]] = {
    "sft": {},
    "sft, sequence mean": {"reduction": "sequence_mean"},
    "word_kd": {},
    "gkd": {"beta": 0.3},
    "dagger": {},
    "opd": {"gamma": 0.5},
    "opd, clip": {"clip": 0.1},
    "opd_full": {},
    "opd_full, top-k": {"top_k": 8},
    "base_opd": {},
    "grpo": {},
}
CUTS: dict[str, dict[str, int]] = {
    "whole": {},
    "rows": {"micro_batch": 2},
    "packed": {"micro_tokens": 60},
    "tokens": {"logit_chunk": 9},
    "both": {"micro_batch": 3, "logit_chunk": 4},
}


def numbers(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[sum(name.encode()), len(name)]))


def student() -> Policy:
    policy = load_policy(STUDENT, "student", load_task("countdown").tokenizer(), device="cpu")
    rng = numbers("weights")
    with torch.no_grad():
        for name, p in sorted(policy.model.named_parameters()):
            if "norm" not in name:
                p.copy_(torch.from_numpy(rng.normal(0, 0.3, tuple(p.shape)).astype(np.float32)))
    return policy


def labelled(policy: Policy, c: TrainConfig) -> list[Labelled]:
    """Eight rollouts of different lengths, with the labels that the cells of `c` read."""
    rng = numbers("rollouts")
    out, tables = [], []
    says = Tables(tables)
    for i in range(8):
        ids = tuple(int(t) for t in rng.integers(2, policy.vocabulary, 3 + 2 * i))
        prompt = Prompt(f"p{i // 4}", "", ids=tuple(int(t) for t in rng.integers(2, policy.vocabulary, 4 + i % 3)))
        r = Rollout(prompt, i % 4, ids, (0.0,) * len(ids), False, "", "student", float(i % 3 == 0))
        (logp,) = policy.score([r])
        noise = torch.from_numpy(rng.normal(0, 0.05, len(ids)).astype(np.float32))
        targets = torch.from_numpy(rng.integers(2, policy.vocabulary, len(ids)))
        table = torch.from_numpy(rng.normal(0, 2, (len(ids), policy.vocabulary)).astype(np.float32)).log_softmax(-1)
        tables.append(table)
        weight = torch.from_numpy(rng.normal(0, 1, len(ids)).astype(np.float32))
        if c.weight in ("one", "passed"):
            weight = weight.abs() if c.importance == "prefix" else torch.ones(len(ids))
        elif c.weight == "advantage":
            weight = torch.full((len(ids),), (1.0, -1.0, 0.0)[i % 3])
        out.append(
            Labelled(
                r,
                targets if c.target == "expert_token" else torch.tensor(ids),
                weight,
                logp + noise,
                says if c.target == "distribution" else None,
                i,
            )
        )
    return out


def trajectory(name: str, cut: dict[str, int]) -> list[list[float]]:
    """[loss, gradient norm] of each update, all on the same rollouts, so that ratios leave 1 and clips apply."""
    method = name.split(",")[0]
    c = resolve(config(method, Path("unused"), grad_clip=1.0, lr=0.01, **CASES[name], **cut))
    policy = student()
    data = labelled(policy, c)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=c.lr, betas=(0.9, c.adam_beta2), weight_decay=0.0)
    metrics = [update(policy, optimizer, data, c) for _ in range(UPDATES)]
    return [[t["loss"], t["grad_norm"]] for t in metrics]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", CASES)
def test_trajectory(name: str, cut: str) -> None:
    """Catches any change of a loss, a reduction, a clip, padding, or the optimizer's settings; 2e-4 leaves room for
    the rounding of other processors."""
    got = np.array(trajectory(name, CUTS[cut]))
    want = np.array(json.loads(GOLDEN.read_text())[name])
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_trajectories_move() -> None:
    """Catches a golden file from a student that does not learn."""
    for name, rows in json.loads(GOLDEN.read_text()).items():
        losses = [loss for loss, _ in rows]
        assert losses[-1] < losses[0], name


if __name__ == "__main__":
    torch.set_num_threads(1)
    values_of = {name: [[float(f"{x:.7g}") for x in row] for row in trajectory(name, {})] for name in CASES}
    rows = [f'"{name}": {json.dumps(values)}' for name, values in values_of.items()]
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n")
