"""How alike a student's gradients on an expert's text are from prompt to prompt: a score of an expert before training.

Source: GRACE, "In Good GRACEs: Principled Teacher Selection for Knowledge Distillation" (arXiv 2511.02833), as the
authors' published code computes it: g is the gradient of the mean negative log-likelihood per token of one completion
of the expert, projected to d dimensions; over a split of the prompts,

    score = tr(A^-1 B),   A = mean of u u^T over the training prompts, u = g / |g|,   B = mean of g g^T over the others,

where the eigenvalues w of A are smoothed, (1 - s) w + s mean(w) with s = 0.001. Lower is better: small gradients, in
directions that the gradients on other prompts have too. It needs the expert's text alone: no verifier, no scores.

Deviations: every prompt is left out once (the code: ten random splits of a tenth), so the order of the prompts changes
nothing; each weight is added, with a random sign, to one of d sums (a count sketch; the code: a dense matrix of random
signs), so nothing of size (weights) x d exists; d follows from the number of gradients, at the code's ratio of four
gradients per dimension (2048 and 512), since a diagnosis has few prompts; the scale is that of |g|^2, not divided by
the number of weights. Scores compare with one another only where student, prompts and d are the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from understudy import running
from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.collect import Setting, Table, cost_of, cost_tensor
from understudy.diagnosis.types import Cost, Estimate
from understudy.methods.losses import Objective
from understudy.policy import Policy, pad
from understudy.randomness import seed_from
from understudy.runs.directory import RunDir
from understudy.types import Batch, Rollout

Floats = NDArray[np.float64]

UNIT = "squared gradient norm"
PROMPTS, SAMPLES = 64, 2
"""Prompts, and completions of each, whose gradients are taken at most."""
SMOOTHING = 1e-3
PER_DIMENSION, MOST = 4, 512
"""Gradients per dimension of the projection, and its largest dimension."""


def dimension(gradients: int) -> int:
    """Of the projection of so many gradients: a power of two."""
    return int(2 ** max(0, math.floor(math.log2(max(1, min(MOST, gradients / PER_DIMENSION))))))


def score(gradients: ArrayLike, smoothing: float = SMOOTHING) -> Estimate:
    """The score of (P, K, d) projected gradients, K completions for each of P > 1 prompts.

    Its interval is over prompts, as if each one's part were independent of the others'.
    """
    parts_P = left_out(np.asarray(gradients, dtype=np.float64), smoothing)
    return intervals.mean(parts_P, UNIT, (0.0, math.inf))


def graded(setting: Setting, run: RunDir, expert: Table) -> tuple[Estimate, Cost]:
    """The score of the expert's completions, from the cache when resumed, and what it took."""
    samples = min(SAMPLES, expert.samples)
    rollouts = [r for r in expert.rollouts if r.sample < samples][: PROMPTS * samples]
    size = dimension(len(rollouts))

    def make() -> dict[str, Tensor]:
        began = time.perf_counter()
        found = torch.from_numpy(projected(setting.student, rollouts, size, setting.seed))
        tokens, prompts = sum(len(r.ids) for r in rollouts), len(rollouts)
        spent = setting.sizes.cost(trained=tokens, seconds=time.perf_counter() - began, prompts=(0, 0, prompts))
        return {"gradients": found, "cost": cost_tensor(spent)}

    cached = run.cache("gradients", make)
    return score(cached["gradients"].numpy().reshape(-1, samples, size)), cost_of(cached["cost"])


def left_out(g_PKd: Floats, smoothing: float = SMOOTHING) -> Floats:
    """(P,) of each prompt, mean over its completions of g^T A^-1 g, A from the other prompts."""
    norm_PK1 = np.linalg.norm(g_PKd, axis=-1, keepdims=True)
    u_PKd = np.divide(g_PKd, norm_PK1, out=np.zeros_like(g_PKd), where=norm_PK1 > 0)
    own_Pdd = np.einsum("pki,pkj->pij", u_PKd, u_PKd)
    others_Pdd = (own_Pdd.sum(0) - own_Pdd) / (g_PKd.shape[1] * (len(g_PKd) - 1))
    values_Pd, vectors_Pdd = np.linalg.eigh(others_Pdd)
    values_Pd = values_Pd.clip(min=0.0)
    smooth_Pd = (1 - smoothing) * values_Pd + smoothing * values_Pd.mean(1, keepdims=True)
    along_PKd = np.einsum("pki,pid->pkd", g_PKd, vectors_Pdd)
    return np.asarray((along_PKd**2 / np.maximum(smooth_Pd, 1e-12)[:, None]).sum(-1).mean(1))


def projected(student: Policy, rollouts: Sequence[Rollout], size: int, seed: int) -> Floats:
    """(R, size) projected gradients of each rollout's mean negative log-likelihood, by what training would update; zero
    where a black box gave no text.

    The student's weights and gradients stay as they are. The same seed gives the same projection.
    """
    weights = list(student.trained().values())
    code_D = _code(sum(w.numel() for w in weights), size, seed)
    out = np.zeros((len(rollouts), size))
    for i, r in enumerate(rollouts):
        running.check()
        if r.blank:
            continue
        gradients = torch.autograd.grad(_loss(student, r), weights, allow_unused=True)
        out[i] = _sketch(gradients, weights, code_D, size)
    return out


def _loss(student: Policy, rollout: Rollout) -> Tensor:
    """Mean negative log-likelihood of its tokens, through the loss that SFT has."""
    block = pad([[rollout]], student.pad_id, student.device)
    weight_N = torch.ones(len(block.row_N), device=student.device)
    batch = Batch(
        block.input_ids_BS, block.attention_mask, block.position_ids_BS, block.place_N, block.action_ids_N,
        block.row_N, weight_N,
    )  # fmt: skip
    return student.losses(batch, Objective("token"), weight_N / len(weight_N)).total


def _code(weights: int, size: int, seed: int) -> Tensor:
    """(D,) int16: the dimension that each weight is added to; below zero (-1 - dimension) with the other sign."""
    source = torch.Generator().manual_seed(seed_from("gradient projection", seed) % 2**63)
    return torch.randint(-size, size, (weights,), dtype=torch.int16, generator=source)


def _sketch(gradients: Sequence[Tensor | None], weights: Sequence[Tensor], code_D: Tensor, size: int) -> Floats:
    """(size,) sums of the signed weights of each dimension."""
    total = torch.zeros(size, dtype=torch.float64)
    at = 0
    for g, w in zip(gradients, weights):
        code = code_D[at : at + w.numel()].to(w.device).long()
        at += w.numel()
        if g is not None:
            signed = torch.where(code < 0, -g.flatten(), g.flatten()).float()
            bucket = torch.where(code < 0, -1 - code, code)
            total += torch.zeros(size, device=w.device).index_add_(0, bucket, signed).double().cpu()
    return np.asarray(total.numpy())
