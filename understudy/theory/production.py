"""The bridge to the production code: the divergences of the theory are the ones that training descends.

Tables of probabilities (numpy, float64) go in; `losses.divergence` on float64 torch log-probs computes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from understudy.methods import losses
from understudy.theory.scalars import Array


def log_table(p: Array) -> Tensor:
    """Natural logs of a table of probabilities as a float64 tensor; log 0 = -inf."""
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(np.asarray(p, dtype=np.float64)))


def kl_student_expert(student: Array, expert: Array) -> Array:
    """KL(student || expert) over the last axis, nats: `losses.divergence` of this kind, broadcast."""
    return _divergence(student, expert, "kl_student_expert")


def kl_expert_student(student: Array, expert: Array) -> Array:
    """KL(expert || student) over the last axis, nats: `losses.divergence` of this kind, broadcast."""
    return _divergence(student, expert, "kl_expert_student")


def _divergence(student: Array, expert: Array, kind: str) -> Array:
    student, expert = np.broadcast_arrays(student, expert)
    value = losses.divergence(log_table(student), log_table(expert), kind).numpy()
    return np.asarray(np.maximum(value, 0.0))  # rounding can leave -1e-17 at equality
