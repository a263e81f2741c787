"""Sampling: recorded log-probs are those of the sampling distribution, and frequencies match probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy.policy import load_policy
from understudy.policy.sampling import Mixture, draw, inverse_cdf, pick, transform
from understudy.randomness import uniforms
from understudy.types import Prompt


class Fixed:
    """A Stepper whose rows are prompts with one fixed next-token distribution each; it records advanced rows."""

    def __init__(self, prompts: Sequence[Prompt], tables: dict[str, torch.Tensor]) -> None:
        self.rows = [p.key for p in prompts]
        self.tables = tables

    def next_logits(self) -> torch.Tensor:
        return torch.stack([self.tables[key] for key in self.rows])

    def advance(self, tokens_B: torch.Tensor) -> None:
        assert len(tokens_B) == len(self.rows)

    def keep(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[i] for i in rows.tolist()]


def logp(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


TABLES = {"a": logp(0.1, 0.2, 0.3, 0.4), "b": logp(0.7, 0.0, 0.1, 0.2)}
PROMPTS = [Prompt("a", "a", ids=(1,)), Prompt("b", "b", ids=(1, 2))]


def sample(samples: int, room: int = 1, ends: Sequence[int] = (), **options: Any) -> list[Any]:
    return draw(
        lambda p: Fixed(p, TABLES), lambda ids: ["" for _ in ids], ends, PROMPTS, samples, 3, room, "x", **options
    )


def off(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Largest deviation in standard deviations of a binomial count; a cell of probability zero must be empty."""
    assert not counts[probabilities == 0].any()
    p, n = probabilities[probabilities > 0], counts.sum()
    return float(np.max(np.abs(counts[probabilities > 0] - n * p) / np.sqrt(n * p * (1 - p) + 1e-9)))


def test_frequencies_are_probabilities() -> None:
    """Catches an inverse CDF that is off by a token, or reads the wrong row's numbers. Seeded: no flake. With another
    seed each of seven cells would fail at 5 standard deviations with odds of 6e-7."""
    rollouts = sample(8000)
    for key, table in TABLES.items():
        ids = np.array([r.ids[0] for r in rollouts if r.prompt.key == key])
        assert len(ids) == 8000
        assert off(np.bincount(ids, minlength=4), table.exp().double().numpy()) < 5


def test_inverse_cdf_by_hand() -> None:
    """Catches < in place of <=, and tokens of probability zero at either end or next to a border."""
    table = logp(0.0, 0.5, 0.0, 0.5, 0.0)  # the border is exact, however this machine rounds exp(log .5)
    u = np.array([0.0, 0.4999, 0.5, 0.5001, 0.9999999, 1 - 2.0**-53])
    assert inverse_cdf(table.expand(6, 5), u).tolist() == [1, 1, 3, 3, 3, 3]
    rng = np.random.default_rng(0)
    wide = torch.tensor(rng.normal(size=(64, 5000)) * 3).float().log_softmax(-1)
    wide[:, 4000:] = -torch.inf  # unnormalised by rounding and by the cut: still never a token of no mass
    for u_ in (0.0, 0.5, 1 - 2.0**-53):
        assert inverse_cdf(wide, np.full(64, u_)).max() < 4000


@pytest.mark.parametrize("vocabulary", [1, 2, 511, 512, 513, 1023, 1024, 1025, 1536, 5000])
def test_the_draw_is_the_inverse_cdf(vocabulary: int) -> None:
    """Catches a wrong block or token at a border of blocks, padding that is drawn, lost mass, and log-probs that
    are not those of the softmax: u must lie in the token's part of the float64 CDF, up to float32 rounding."""
    generator = torch.Generator().manual_seed(vocabulary)
    for scale, dtype in ((0.01, torch.float32), (3.0, torch.float32), (30.0, torch.float32), (3.0, torch.float64)):
        logits = torch.randn(200, vocabulary, generator=generator, dtype=torch.float64) * scale + 50
        logits[:, 3::7] = -torch.inf
        logits = logits.to(dtype)
        u = torch.rand(200, generator=generator, dtype=torch.float64)
        u[:3] = torch.tensor([0.0, 1 - 2.0**-53, 0.5])
        tokens, logp = pick(logits, u)
        p = logits.double().softmax(-1)
        above = p.cumsum(-1).gather(-1, tokens[:, None])[:, 0]
        mass = p.gather(-1, tokens[:, None])[:, 0]
        assert (mass > 0).all()
        close = 2e-6 if dtype == torch.float32 else 1e-12
        assert (u <= above + close).all()
        assert (u >= above - mass - close).all()
        assert (logp - mass.log()).abs().max() < 1e-5
        assert (tokens[1] == 0) if vocabulary == 1 else tokens[1] > 0.4 * vocabulary


@pytest.mark.parametrize("vocabulary", [7, 700, 3001])
def test_a_row_is_drawn_alike_in_every_batch(vocabulary: int) -> None:
    """Catches sums whose rounding depends on the rows beside: bit for bit, also greedily."""
    generator = torch.Generator().manual_seed(1)
    logits, u = torch.randn(33, vocabulary, generator=generator) * 4, torch.rand(33, generator=generator).double()
    for numbers in (u, None):
        together = pick(logits, numbers)
        for rows in ([4], [32, 0], list(range(5, 22))):
            alone = pick(logits[rows], None if numbers is None else numbers[rows])
            assert all(torch.equal(a, b[rows]) for a, b in zip(alone, together))


def test_frequencies_of_a_grid_are_exact() -> None:
    """Catches a bias of any token: of a grid of n numbers each token takes n times its probability, within one."""
    n, logits = 20_000, torch.linspace(-4, 4, 1100)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    tokens = torch.cat([pick(logits.expand(len(part), -1), part)[0] for part in u.split(1000)])
    assert (torch.bincount(tokens, minlength=1100) - n * logits.double().softmax(-1)).abs().max() <= 1.1


def test_tempered_by_hand() -> None:
    """Catches a temperature that multiplies, or log-probs that are not renormalised."""
    got = transform(logp(0.1, 0.2, 0.3, 0.4)[None], 0.5, 1.0)[0].exp()
    want = torch.tensor([0.01, 0.04, 0.09, 0.16]) / 0.30
    torch.testing.assert_close(got, want)
    assert torch.equal(transform(TABLES["a"][None], 1.0, 1.0)[0], TABLES["a"]), "T = 1, top-p = 1 must change nothing"


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.39, [3]), (0.41, [2, 3]), (0.71, [1, 2, 3]), (0.91, [0, 1, 2, 3]), (1e-9, [3])]
)
def test_nucleus_by_hand(top_p: float, kept: list[int]) -> None:
    """Catches a nucleus that drops the token which crosses the border, keeps one more, loses the order of the
    vocabulary, or is not renormalised."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    got = transform(p.log()[None], 1.0, top_p)[0].exp()
    want = torch.zeros(4)
    want[kept] = p[kept] / p[kept].sum()
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8), (1.7, 0.9)])
def test_what_is_recorded_is_what_was_drawn_from(temperature: float, top_p: float) -> None:
    """Catches recording the plain softmax while sampling another distribution."""
    rollouts = sample(4000, temperature=temperature, top_p=top_p)
    for key, table in TABLES.items():
        law = transform(table[None], temperature, top_p)[0]
        drawn = [r for r in rollouts if r.prompt.key == key]
        assert all(abs(r.behavior_logp[0] - float(law[r.ids[0]])) < 1e-6 for r in drawn)
        counts = np.bincount([r.ids[0] for r in drawn], minlength=4)
        assert off(counts, law.double().exp().numpy()) < 5  # odds of a false failure under 1e-5, and seeded


def test_greedy_takes_the_most_likely() -> None:
    """Catches greedy decoding that still consumes random numbers or follows them."""
    for r in sample(2, room=3, greedy=True):
        assert r.ids == ((3, 3, 3) if r.prompt.key == "a" else (0, 0, 0))


def test_ends_and_limits() -> None:
    """Catches completions that go on after an end token, get one appended, or swap rows when some have ended."""
    rollouts = sample(300, room=6, ends=(0, 3))
    for r in rollouts:
        assert r.ended == (r.ids[-1] in (0, 3))
        assert not {0, 3} & set(r.ids[:-1])
        assert len(r.ids) <= 6
        assert r.ended or len(r.ids) == 6
        expected = TABLES[r.prompt.key][list(r.ids)]
        assert torch.allclose(expected, torch.tensor(r.behavior_logp)), "another row's log-probs"
        u = uniforms(3, r.prompt.key, r.sample, 6)
        again = [int(inverse_cdf(TABLES[r.prompt.key][None], u[t : t + 1])) for t in range(len(r.ids))]
        assert list(r.ids) == again, "a completion is a function of (seed, key, sample)"
    assert {r.ended for r in rollouts} == {True, False}
    only = sample(5, room=1, ends=(0, 1, 2, 3))
    assert all(r.ended and len(r.ids) == 1 for r in only), "an end token at the limit is an end"


def test_uniforms_are_named() -> None:
    """Catches a counter that is shared between prompts, samples or seeds, or that depends on how many are asked for."""
    base = uniforms(1, "k", 0, 50)
    assert base.min() >= 0
    assert base.max() < 1
    assert np.array_equal(base[:20], uniforms(1, "k", 0, 20))
    for other in (uniforms(2, "k", 0, 50), uniforms(1, "l", 0, 50), uniforms(1, "k", 1, 50)):
        assert not np.isin(other, base).any()
    many = np.concatenate([uniforms(0, f"p{i}", 0, 100) for i in range(200)])
    assert abs(many.mean() - 0.5) < 5 * (1 / 12 / len(many)) ** 0.5  # seeded; odds with another seed 6e-7


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixture_by_hand(share: float) -> None:
    """Catches a mixture of logits in place of probabilities, a swapped share, or a log of zero at the ends."""
    mix = Mixture(Fixed(PROMPTS[:1], TABLES), Fixed(PROMPTS[1:], TABLES), share)
    want = share * TABLES["a"].exp() + (1 - share) * TABLES["b"].exp()
    torch.testing.assert_close(mix.next_logits()[0].exp(), want)
    mix.keep(torch.tensor([], dtype=torch.long))
    assert [part.rows for part in mix.parts] == [[], []], "both must follow"


def test_mixture_of_two_models_keeps_both_in_step(models: dict[str, Path]) -> None:
    """Catches a part of the mixture that misses a token or drops another row: the recorded log-probs must be those of
    the mixture of two independent teacher-forced passes."""
    first, second = (load_policy(str(models[arch]), "student", device="cpu") for arch in ("llama", "qwen3"))
    prompts = first.encode([Prompt(f"p{i}", "3 5 7>15\n"[: 3 + 2 * i]) for i in range(4)])
    ends = tuple(range(1, 262, 16))
    rollouts = draw(
        lambda p: Mixture(first.start(p), second.start(p), 0.3), first.decode, ends, prompts, 3, 1, 16, "mixture"
    )
    assert {r.ended for r in rollouts} == {True, False}
    for r, a, b in zip(rollouts, first.score(rollouts), second.score(rollouts)):
        want = torch.logaddexp(a + np.log(0.3), b + np.log(0.7))
        assert (want - torch.tensor(r.behavior_logp)).abs().max() < 1e-5


def test_prompt_major_order() -> None:
    """Catches completions that come back in the order in which they were batched (by length)."""
    rollouts = sample(3)
    assert [(r.prompt.key, r.sample) for r in rollouts] == [(k, s) for k in "ab" for s in range(3)]
    assert all(a.prompt.key <= b.prompt.key for a, b in pairwise(rollouts))
