"""The table's identities, by exact enumeration of all sequences (V = 3, T = 3) in float64, through the real losses.

Each test says which bug it would catch. Tolerance 1e-8; gradients here are of order 0.01 to 1.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from understudy.methods import divergences, losses
from understudy.methods.kernel import token_losses
from understudy.protocols import TableSignal
from understudy.types import Batch

V, T = 3, 3
SEQUENCES = list(itertools.product(range(V), repeat=T))
PREFIXES = {p: i for i, p in enumerate(q for t in range(T) for q in itertools.product(range(V), repeat=t))}


class Tabular:
    """A softmax table with one row of logits per prefix: it can represent every policy on sequences of length 3."""

    def __init__(self, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.table = (1.2 * torch.randn(len(PREFIXES), V, dtype=torch.float64, generator=g)).requires_grad_()

    def logits_N(self, sequences=SEQUENCES) -> torch.Tensor:
        index = [PREFIXES[s[:t]] for s in sequences for t in range(T)]
        return self.table[index]

    def logp_N(self) -> torch.Tensor:
        return losses.log_of(self.logits_N()).gather(-1, ACTIONS_N[:, None])[:, 0]

    def sequence_logp_B(self) -> torch.Tensor:
        return self.logp_N().view(-1, T).sum(1)

    def gradient(self, value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, self.table)[0]


ACTIONS_N = torch.tensor([a for s in SEQUENCES for a in s])
ROW_N = torch.arange(len(SEQUENCES)).repeat_interleave(T)


@pytest.fixture
def student() -> Tabular:
    return Tabular(1)


@pytest.fixture
def expert() -> Tabular:
    return Tabular(2)


@pytest.fixture
def base() -> Tabular:
    return Tabular(3)


def expectation(loss_N: torch.Tensor, by: Tabular) -> torch.Tensor:
    """Sum over all sequences of probability (without gradient) times the summed token losses."""
    return (by.sequence_logp_B().exp().detach()[ROW_N] * loss_N).sum()


def opd(student: Tabular, expert: Tabular, gamma: float) -> torch.Tensor:
    logp_N = student.logp_N()
    advantage_N = divergences.discounted_to_go((expert.logp_N() - logp_N).detach(), ROW_N, gamma)
    return student.gradient(expectation(losses.surrogate(logp_N, logp_N.detach(), advantage_N), student))


def opd_full(student: Tabular, expert: Tabular) -> torch.Tensor:
    loss_N = losses.divergence(
        student.logits_N().log_softmax(-1), expert.logits_N().log_softmax(-1).detach(), "kl_student_expert"
    )
    return student.gradient(expectation(loss_N, student))


def sequence_kl(student: Tabular, expert: Tabular) -> torch.Tensor:
    """Autograd gradient of the exact KL(student || expert) over whole sequences, including the prefix distribution."""
    return student.gradient(divergences.kl(student.sequence_logp_B(), expert.sequence_logp_B().detach()))


def base_weights(student: Tabular, base: Tabular) -> torch.Tensor:
    return divergences.prefix_log_ratio(student.logp_N().detach(), base.logp_N().detach(), ROW_N).exp()


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-8)


def test_opd_gamma_0_is_opd_full_at_frozen_prefixes(student, expert):
    """Catches a swapped KL, a wrong sign, a gradient through the weight, or a k3-style estimate."""
    assert close(opd(student, expert, 0.0), opd_full(student, expert))


def test_opd_gamma_1_is_the_sequence_reverse_kl(student, expert):
    """Catches a discounted sum in the wrong direction or across rows."""
    assert close(opd(student, expert, 1.0), sequence_kl(student, expert))


def test_control_gamma_0_is_not_the_sequence_reverse_kl(student, expert):
    assert (opd(student, expert, 0.0) - sequence_kl(student, expert)).abs().max() > 1e-2


def test_gamma_between_interpolates_linearly_only_where_it_should(student, expert):
    """gamma enters as a polynomial of degree T - 1: three points determine it, a fourth must agree."""
    points = {g: opd(student, expert, g) for g in (0.0, 0.5, 1.0, 0.3)}
    lagrange = {0.0: (0.3 - 0.5) * (0.3 - 1) / 0.5, 0.5: 0.3 * (0.3 - 1) / -0.25, 1.0: 0.3 * (0.3 - 0.5) / 0.5}
    assert close(points[0.3], sum(lagrange[g] * points[g] for g in lagrange))


def beyond(student: Tabular, expert: Tabular, base: Tabular, factor: float, gamma: float) -> torch.Tensor:
    """exopd: the weight reads log base + factor (log expert - log base)."""
    logp_N, base_N = student.logp_N(), base.logp_N()
    says_N = base_N + factor * (expert.logp_N() - base_N)
    weight_N = divergences.discounted_to_go((says_N - logp_N).detach(), ROW_N, gamma)
    return student.gradient(expectation(losses.surrogate(logp_N, logp_N.detach(), weight_N), student))


def token_target(expert: Tabular, base: Tabular, factor: float) -> torch.Tensor:
    tables = [policy.logits_N().log_softmax(-1).detach() for policy in (expert, base)]
    return divergences.extrapolated(*tables, factor)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.25, 2.0])
def test_exopd_is_opd_full_on_the_extrapolated_distribution(student, expert, base, factor):
    """Catches base and expert swapped, and a normaliser with a gradient. Factor 1 is opd, 0 is opd of the base."""
    loss_N = losses.divergence(
        student.logits_N().log_softmax(-1), token_target(expert, base, factor), "kl_student_expert"
    )  # fmt: skip
    got = beyond(student, expert, base, factor, 0.0)
    assert close(got, student.gradient(expectation(loss_N, student)))
    if factor in (0.0, 1.0):
        assert close(got, opd(student, expert if factor else base, 0.0))
    else:
        assert (got - opd(student, expert, 0.0)).abs().max() > 1e-2


def test_exopd_gamma_1_is_normalised_once_per_completion(student, expert, base):
    """The target of whole completions is base (expert / base)^factor / Z with one Z; a Z at every token is another."""
    factor = 1.5
    raw_B = (base.sequence_logp_B() + factor * (expert.sequence_logp_B() - base.sequence_logp_B())).detach()
    whole = student.gradient(divergences.kl(student.sequence_logp_B(), raw_B.log_softmax(0)))
    acted_N = token_target(expert, base, factor).gather(-1, ACTIONS_N[:, None])[:, 0]
    tokenwise = student.gradient(divergences.kl(student.sequence_logp_B(), acted_N.view(-1, T).sum(1)))
    assert close(beyond(student, expert, base, factor, 1.0), whole)
    assert (whole - tokenwise).abs().max() > 1e-2


def test_sft_is_word_kd_in_expectation(student, expert):
    logp_N = student.logp_N()
    sft = student.gradient(expectation(losses.surrogate(logp_N, None, torch.ones_like(logp_N)), expert))
    loss_N = losses.divergence(
        student.logits_N().log_softmax(-1), expert.logits_N().log_softmax(-1).detach(), "kl_expert_student"
    )
    word_kd = student.gradient(expectation(loss_N, expert))
    assert close(sft, word_kd)
    exact = student.gradient(divergences.kl(expert.sequence_logp_B().detach(), student.sequence_logp_B()))
    assert close(sft, exact), "sft must descend KL(expert || student) over sequences"


def test_base_tokens_with_the_ratio_are_base_opd_and_opd_full(student, expert, base):
    """Acted base tokens need student/base at the token and before it; distributions only before it."""
    prefix_N = base_weights(student, base)
    logp_N = student.logp_N()
    advantage_N = (expert.logp_N() - logp_N).detach() * prefix_N
    acted = student.gradient(expectation(losses.surrogate(logp_N, base.logp_N().detach(), advantage_N), base))
    loss_N = prefix_N * losses.divergence(
        student.logits_N().log_softmax(-1), expert.logits_N().log_softmax(-1).detach(), "kl_student_expert"
    )
    base_opd = student.gradient(expectation(loss_N, base))
    assert close(acted, base_opd)
    assert close(base_opd, opd_full(student, expert))


def test_control_base_tokens_without_the_ratio_differ(student, expert, base):
    logp_N = student.logp_N()
    advantage_N = (expert.logp_N() - logp_N).detach() * base_weights(student, base)
    without = student.gradient(expectation(losses.surrogate(logp_N, None, advantage_N), base))
    assert (without - opd_full(student, expert)).abs().max() > 1e-2


def test_group_advantage_is_the_reward_gradient_times_one_minus_one_over_group(student):
    """Group mean as baseline, groups of two, all 27 x 27 groups: gradient of accuracy times 1 - 1/G. Catches a
    baseline that counts the sample's reward twice, or rewards that broadcast over the wrong axis."""
    reward_B = torch.tensor([float(sum(s) % 2) for s in SEQUENCES], dtype=torch.float64)
    first, second = torch.cartesian_prod(torch.arange(27), torch.arange(27)).T
    advantage_BG = divergences.group_advantages(torch.stack([reward_B[first], reward_B[second]], 1), "none")
    probability_B = student.sequence_logp_B().exp().detach()
    weight_B = torch.zeros(27, dtype=torch.float64)
    pair = probability_B[first] * probability_B[second]
    weight_B.index_add_(0, first, pair * advantage_BG[:, 0]).index_add_(0, second, pair * advantage_BG[:, 1])
    logp_N = student.logp_N()
    got = student.gradient(losses.surrogate(logp_N, logp_N.detach(), weight_B[ROW_N]).sum())
    value = (student.sequence_logp_B().exp() * reward_B).sum()
    assert close(got, -student.gradient(value))  # two samples per group, each (1 - 1/2) of the gradient


def with_rewards(student: Tabular, expert: Tabular, target: str, expert_coef: float, advantage_coef: float):
    """Gradient of weight expert_reward in groups of two, all 27 x 27 of them, through the kernel that training uses."""
    reward_B = torch.tensor([float(sum(s) % 2) for s in SEQUENCES], dtype=torch.float64)
    first, second = torch.cartesian_prod(torch.arange(27), torch.arange(27)).T
    advantage_BG = divergences.group_advantages(torch.stack([reward_B[first], reward_B[second]], 1), "none")
    probability_B = student.sequence_logp_B().exp().detach()
    mean_B = torch.zeros(27, dtype=torch.float64)  # of the advantage that a completion has, over its partners
    mean_B.index_add_(0, first, probability_B[second] * advantage_BG[:, 0])
    logp_N, says_N = student.logp_N().detach(), expert.logp_N().detach()
    weight_N, reward_N = torch.full((len(ROW_N),), expert_coef, dtype=torch.float64), advantage_coef * mean_B[ROW_N]
    if target == "token":
        weight_N = expert_coef * (says_N - logp_N) + reward_N
    n = torch.arange(len(ROW_N))
    signal = TableSignal(expert.logits_N().log_softmax(-1).detach())
    batch = Batch(
        n[:, None], None, n[:, None], n, ACTIONS_N, ROW_N, weight_N, logp_N, signal, reward_weight_N=reward_N
    )  # fmt: skip
    goal = losses.Objective(target, "kl_student_expert", importance=True, clip=0.2)
    return student.gradient(token_losses(student.logits_N(), lambda z: z, batch, goal, probability_B[ROW_N]).total)


@pytest.mark.parametrize("target", ["token", "distribution"])
def test_expert_and_reward_add_up(student, expert, target):
    """b times opd_full (opd) minus c (1 - 1/G) times the gradient of accuracy; one factor 0 leaves the other row."""
    reward_B = torch.tensor([float(sum(s) % 2) for s in SEQUENCES], dtype=torch.float64)
    accuracy = student.gradient((student.sequence_logp_B().exp() * reward_B).sum())
    distilled = opd_full(student, expert)
    for b, c in ((1.0, 0.0), (0.0, 1.0), (0.3, 2.0)):
        assert close(with_rewards(student, expert, target, b, c), b * distilled - c / 2 * accuracy)


def test_rft_is_the_gradient_of_expected_passing_likelihood(student):
    reward_B = torch.tensor([float(s[0] == 1) for s in SEQUENCES], dtype=torch.float64)
    logp_N = student.logp_N()
    got = student.gradient(expectation(losses.surrogate(logp_N, None, reward_B[ROW_N]), student))
    value = (student.sequence_logp_B().exp() * reward_B).sum()
    assert close(got, -student.gradient(value)), "one round from the current student is the policy gradient of accuracy"


@pytest.mark.parametrize("kind", ["kl_expert_student", "kl_student_expert", "jsd"])
def test_divergence_gradients_against_central_differences(student, expert, kind):
    expert_logp = expert.logits_N().log_softmax(-1).detach()

    def value(table: torch.Tensor) -> torch.Tensor:
        index = [PREFIXES[s[:t]] for s in SEQUENCES for t in range(T)]
        return losses.divergence(table[index].log_softmax(-1), expert_logp, kind, 0.3).sum()

    assert torch.autograd.gradcheck(value, (student.table,), atol=1e-7)


def test_ppo_clip_is_the_pessimistic_minimum():
    logp = torch.log(torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)).requires_grad_()
    behavior = torch.log(torch.tensor([0.25, 0.25, 1.0, 1.0], dtype=torch.float64))  # ratios 2, 2, 1/2, 1/2
    weight = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    loss = losses.surrogate(logp, behavior, weight, clip=0.2)
    assert close(loss, torch.tensor([-1.2, 2.0, -0.5, 0.8], dtype=torch.float64))
    assert close(torch.autograd.grad(loss.sum(), logp)[0], torch.tensor([0.0, 2.0, -0.5, 0.0], dtype=torch.float64))
