"""What an expert of another family says about the next token, as far as a student's distribution can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from understudy.experts.foreign.vocabulary import Buckets
from understudy.types import Signal

TAIL = 1e-6
"""Least probability of the expert's tail: else a student's token without a counterpart would cost infinitely much."""


@dataclass(frozen=True)
class Before:
    """Of R of the M tokens: the expert's token before, which could have been the beginning of longer ones."""

    rows_R: Tensor
    """Their numbers among the M, rising."""
    inner: Signal
    """The expert's distributions of the tokens before."""
    token_R: Tensor
    longer: list[tuple[Tensor, Tensor]]
    """Of each, see Buckets.longer."""

    def corrected(self, table_mW: Tensor, part: slice) -> Tensor:
        """The (m, W) log-probs of the next token given the text so far: the token before may not have ended there.

        With the token e behind which they are, and longer ones l = e..., P(next) = (P(e) P(next | e) + the sum of P(l)
        over those l whose text goes on so) / (P(e) + the sum of all P(l)). Overwrites the table.
        """
        first, last = torch.searchsorted(self.rows_R, torch.tensor([part.start, part.stop])).tolist()
        if first == last:
            return table_mW
        device = table_mW.device
        rows_r = (self.rows_R[first:last] - part.start).to(device)
        prior_rW = self.inner.table(slice(first, last)).to(table_mW)
        longer = self.longer[first:last]
        row_L = torch.arange(last - first).repeat_interleave(torch.tensor([len(x) for x, _ in longer])).to(device)
        whole_L, next_L = (torch.cat([pair[i] for pair in longer]).to(device) for i in (0, 1))
        ended_r = prior_rW.gather(1, self.token_R[first:last, None].to(device))[:, 0].double()
        mass_L = prior_rW[row_L, whole_L].double().exp()
        total_r = ended_r.exp().index_add(0, row_L, mass_L).clamp_min(torch.finfo(torch.float64).tiny).log()
        cells_l, of_L = torch.unique(row_L * table_mW.shape[1] + next_L, return_inverse=True)
        added_l = mass_L.new_zeros(len(cells_l)).index_add_(0, of_L, mass_L)
        at_l, token_l = cells_l.div(table_mW.shape[1], rounding_mode="floor"), cells_l % table_mW.shape[1]
        out_rW = table_mW[rows_r] + (ended_r - total_r).to(table_mW)[:, None]
        goes_on_l = (_log(added_l) - total_r[at_l]).to(table_mW)
        out_rW[at_l, token_l] = torch.logaddexp(out_rW[at_l, token_l], goes_on_l)
        table_mW[rows_r] = out_rW
        return table_mW


class MatchedSignal(Signal):
    """types.Signal of N tokens of the student, M of which begin where a token of the expert begins too.

    Both distributions are coarsened to `buckets`, one event for each, and a divergence of the two is what
    `divergences.kl` or `jsd` of the coarsened ones would give. It is computed on the student's tokens: inside a bucket
    the expert's mass is divided as the student divides its own, which adds nothing to a divergence or its gradient.
    The other N - M tokens have the student's own distribution, which is no loss.
    """

    def __init__(self, inner: Signal, rows_M: Tensor, buckets: Buckets, before: Before | None = None) -> None:
        """inner: the expert's, of the M tokens. rows_M: their numbers among the N, rising, on the CPU."""
        self.inner, self.rows_M, self.buckets, self.before = inner, rows_M, buckets, before

    def beside(self, student_nV: Tensor, at: slice, top_k: int, top_k_of: str) -> Tensor:
        out_nV = student_nV.clone()
        part, rows_m = self._part(at)
        if not len(rows_m):
            return out_nV
        rows_m = rows_m.to(student_nV.device)
        p_mV = student_nV if len(rows_m) == len(student_nV) else student_nV[rows_m]
        known = self.buckets.to(student_nV.device)
        if top_k:
            out_nV[rows_m] = p_mV + self._of_best(p_mV, known, part, top_k, top_k_of)[:, known.student_V]
            return out_nV
        q_mW = self._next(part, student_nV)
        (crowd, crowd_of), (other_crowd, other_of), count = known.crowds
        own, other = known.one_to_one
        matched_mV = p_mV.clone()
        if len(crowd) or len(other_crowd):
            q_mC, p_mC = (
                _sums(x[:, tokens].exp(), where.expand(len(x), -1), count)
                for x, tokens, where in ((q_mW, other_crowd, other_of), (p_mV, crowd, crowd_of))
            )
            if not bool((crowd_of == count - 1).any()):  # the student has no tail: the expert's is left out
                q_mW = q_mW - (1 - q_mC[:, -1:]).log()
                q_mC = q_mC / (1 - q_mC[:, -1:])
            q_mC[:, -1] = q_mC[:, -1].clamp_min(TAIL)
            matched_mV[:, crowd] += (_log(q_mC) - _log(p_mC))[:, crowd_of]
        matched_mV[:, own] = q_mW[:, other]
        out_nV[rows_m] = matched_mV
        return out_nV

    def _of_best(self, p_mV: Tensor, known: Buckets, part: slice, k: int, of: str) -> Tensor:
        """(m, buckets) log expert - log student: of the k most likely buckets each, of all others together."""
        p_mB = _sums(p_mV.exp(), known.student_V.expand_as(p_mV), known.count + 1)
        if of == "student":
            q_mW = self._next(part, p_mV)
            q_mB = _sums(q_mW.exp(), known.expert_W.expand_as(q_mW), known.count + 1)
        else:
            ids_mK, logp_mK = self.inner.top_k(k, part)
            q_mB = _sums(logp_mK.to(p_mV).exp(), known.expert_W[ids_mK.to(p_mV.device)], known.count + 1)
        best_mK = (p_mB if of == "student" else q_mB)[:, :-1].topk(min(k, known.count), -1).indices
        kept_mB = torch.zeros_like(p_mB, dtype=torch.bool).scatter_(1, best_mK, True) & (q_mB > 0)
        q_rest_m1 = (1 - (q_mB * kept_mB).sum(1, keepdim=True)).clamp_min(TAIL)
        p_rest_m1 = (p_mB * ~kept_mB).sum(1, keepdim=True)
        return torch.where(kept_mB, _log(q_mB) - _log(p_mB), _log(q_rest_m1) - _log(p_rest_m1))

    def own(self, beside_nV: Tensor, kept_m: Tensor | None, at: slice) -> Tensor:
        part, rows_m = self._part(at)
        numbers = torch.arange(part.start, part.stop)
        if kept_m is not None:
            numbers = numbers[torch.isin(rows_m, kept_m.cpu())]
        if not len(numbers):
            return beside_nV[:0]
        return self.inner.taken(numbers).table(slice(0, len(numbers)))

    def ranked(self, student_nV: Tensor, at: slice) -> Tensor:
        part, rows_m = self._part(at)
        out_nV = student_nV.sort(-1, descending=True).values
        if not len(rows_m):
            return out_nV
        q_mW = self.inner.ranked(student_nV, part).to(student_nV)
        wide = max(q_mW.shape[1], out_nV.shape[1])
        out_nV, q_mW = (pad(x, (0, wide - x.shape[1]), value=-math.inf) for x in (out_nV, q_mW))
        return out_nV.index_copy(0, rows_m.to(out_nV.device), q_mW)

    def _next(self, part: slice, like: Tensor) -> Tensor:
        """(m, W) log-probs of the expert's next token, given the text so far."""
        table_mW = self.inner.table(part).to(like)
        return table_mW if self.before is None else self.before.corrected(table_mW, part)

    def _part(self, at: slice) -> tuple[slice, Tensor]:
        """(which of the M tokens lie in the slice, their numbers counted from its beginning)."""
        first, last = torch.searchsorted(self.rows_M, torch.tensor([at.start, at.stop])).tolist()
        return slice(first, last), self.rows_M[first:last] - at.start

    def taken(self, rows_M: Tensor) -> Signal:
        raise ValueError("the tokens of an expert of another family are those that its alignment has taken")

    def table(self, at: slice) -> Tensor:
        raise ValueError("an expert of another family has no distribution over the student's tokens")

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        raise ValueError("an expert of another family has no distribution over the student's tokens")

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        raise ValueError("an expert of another family has no distribution over the student's tokens")


def _sums(mass: Tensor, where: Tensor, count: int) -> Tensor:
    """(m, count) sums of the (m, K) masses by bucket."""
    return mass.new_zeros(len(mass), count).scatter_add_(1, where, mass)


def _log(mass: Tensor) -> Tensor:
    return mass.clamp_min(torch.finfo(mass.dtype).tiny).log()
