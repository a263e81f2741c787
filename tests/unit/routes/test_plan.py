"""The cost of a route by hand, and the budgets and updates that follow from it."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.config import Resolved, TrainConfig, resolve
from understudy.errors import UserError
from understudy.methods.price import Lengths, Sizes, flops_per_update, tokens_per_update
from understudy.routes.plan import SLACK, budget_left, plan, usual_total
from understudy.routes.route import parse

P, S, E, C = 10.0, 20.0, 15.0, 70.0
LENGTHS, SIZES = Lengths(P, S, E), Sizes(3.0, 5.0)
N = 4


def method(name: str, **changes: Any) -> Resolved:
    fields: dict[str, Any] = {"student": "x", "expert": "y", "prompts_per_update": N, "method": name}
    return resolve(TrainConfig(**(fields | changes)))


def phases(text: str) -> list[Any]:
    return [(phase, method(phase.method)) for phase in parse(text)]


@pytest.mark.parametrize(
    ("name", "changes", "want"),
    [
        ("sft", {}, 2 * 5 * (P + E) + 6 * 3 * (P + E)),
        ("word_kd", {}, 4 * 5 * (P + E) + 6 * 3 * (P + E)),
        ("opd", {}, (2 * 3 + 2 * 5 + 6 * 3) * (P + S)),
        ("opd_full", {}, (2 * 3 + 2 * 5 + 6 * 3) * (P + S)),
        ("opd", {"updates_per_rollout": 2}, ((2 * 3 + 2 * 5) / 2 + 6 * 3) * (P + S)),
        ("gkd", {"student_share": 0.25}, 0.25 * 34 * (P + S) + 0.75 * (4 * 5 + 6 * 3) * (P + E)),
        ("grpo", {"samples_per_prompt": 8}, (2 * 3 + 6 * 3) * (P + 8 * S)),
        ("base_opd", {"prompt_pool": 0}, 34 * (P + S)),
        ("exopd", {}, (4 * 3 + 2 * 5 + 6 * 3) * (P + S)),
        ("exopd", {"extrapolation": 1.0}, 34 * (P + S)),
        ("opd_full", {"signal": "extrapolated", "samples_per_prompt": 2}, (4 * 3 + 2 * 5 + 6 * 3) * (P + 2 * S)),
        ("opd_reward", {"samples_per_prompt": 8}, 34 * (P + 8 * S)),
        ("opd_full_reward", {"samples_per_prompt": 8}, 34 * (P + 8 * S)),
        ("opd", {"sft_alpha": 0.2}, 34 * (P + S) + (2 * 5 + 6 * 3) * (P + E) / 4),
        ("grpo", {"samples_per_prompt": 8, "sft_alpha": 0.5}, 24 * (P + 8 * S) + 28 * (P + 8 * E)),
    ],
)
def test_flops_of_an_update(name: str, changes: dict[str, Any], want: float) -> None:
    """Catches a term of the formula that is missing, or counted per completion where a prompt is shared."""
    got = flops_per_update(method(name, **changes), LENGTHS, SIZES)
    assert got == pytest.approx(N * want)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("opd", (2 * 3 + 6 * 3) * (P + S) + 2 * 5 * (C + S)),
        ("word_kd", 4 * 5 * (C + E) + 6 * 3 * (P + E)),
        ("exopd", (4 * 3 + 6 * 3) * (P + S) + 2 * 5 * (C + S)),
    ],
)
def test_an_expert_with_a_context_reads_longer_prompts(name: str, want: float) -> None:
    """Of C tokens, by the expert alone: student and base read P."""
    got = flops_per_update(method(name), Lengths(P, S, E, expert_prompt=C), SIZES)
    assert got == pytest.approx(N * want)


def test_rft_trains_what_passed() -> None:
    """Four completions per prompt of which a quarter passes: one is trained, of 1 - .75^4 of the prompts."""
    spent = tokens_per_update(method("rft", samples_per_prompt=4), Lengths(P, S, E, 0.25))
    assert spent["student_tokens_sampled"] == N * 4 * S
    assert spent["student_tokens_trained"] == N * S
    assert spent["student_prompt_tokens_trained"] == pytest.approx(N * P * (1 - 0.75**4))


def test_dagger_asks_twice() -> None:
    """The expert scores every token while both write, and labels it. In the first of two rounds it writes alone."""
    spent = tokens_per_update(method("dagger", round_updates=10, expert_share=0.5), LENGTHS, updates=20)
    length = 0.75 * E + 0.25 * S
    assert spent["expert_tokens_scored"] == 2 * N * length
    assert spent["student_tokens_sampled"] == spent["student_tokens_trained"] == N * length
    assert spent["expert_tokens_sampled"] == 0


def test_a_pool_is_sampled_once() -> None:
    """Half of 20 updates of 4 are a first use of 40 prompts."""
    spent = tokens_per_update(method("word_kd", prompt_pool=40), LENGTHS, updates=20)
    assert spent["expert_tokens_sampled"] == spent["expert_tokens_scored"] == N * E / 2
    assert spent["student_tokens_trained"] == N * E


def test_a_route_of_equal_halves() -> None:
    """sft costs 28 * 25 * 4 = 2800 an update. After it the student writes as the expert: opd_full costs 34 * 25 * 4."""
    first, second = plan(phases("sft+opd_full"), "flops", 28_000, LENGTHS, SIZES, {"sft": 0.5})
    assert (first.budget, first.expected_updates, first.updates) == (14_000, 5, 5 * SLACK)
    assert (second.budget, second.expected_updates) == (14_000, 4)
    assert (first.flops, first.seconds) == (14_000, 2.5)


def test_the_usual_budget_is_that_of_online_training() -> None:
    """One phase opd_full has as many updates as were asked for, one of sft as many as the same FLOPs buy."""
    total = usual_total("flops", 100, method("opd_full"), LENGTHS, SIZES)
    assert total == 100 * N * 34 * 30
    assert plan(phases("opd_full"), "flops", total, LENGTHS, SIZES)[0].expected_updates == 100
    assert plan(phases("sft"), "flops", total, LENGTHS, SIZES)[0].expected_updates == 34 * 30 * 100 // (28 * 25)


@pytest.mark.parametrize(
    ("text", "total", "updates"),
    [
        ("sft+gkd", 201, [100, 101]),
        ("sft+gkd+opd", 100, [33, 34, 33]),
        ("sft:150+gkd", 200, [150, 50]),
        ("sft:40%+gkd+opd", 100, [40, 30, 30]),
        ("sft:40%+gkd:20", 100, [40, 20]),
        ("sft:7+gkd:9", 0, [7, 9]),
    ],
)
def test_updates_are_exact(text: str, total: float, updates: list[int]) -> None:
    made = plan(phases(text), "updates", total, LENGTHS, SIZES)
    assert [phase.updates for phase in made] == [phase.expected_updates for phase in made] == updates
    assert all(phase.exact for phase in made)


def test_numbers_make_the_total_where_there_is_no_budget() -> None:
    first, second = plan(phases("sft:10+opd_full:4"), "flops", 0, LENGTHS, SIZES)
    assert (first.budget, second.budget) == (28_000, 4 * 3400)
    assert (first.updates, second.updates) == (10, 4)


@pytest.mark.parametrize(
    ("text", "axis", "total", "words"),
    [
        ("sft+opd_full", "flops", 5000, "less than the 2.8e"),
        ("sft:10+opd_full", "flops", 20_000, "more than the budget"),
        ("sft+opd_full", "updates", 1, "less than the 1 updates of one update"),
        ("sft+opd_full", "expert_tokens_scored", 10_000, "phase sft spends no expert_tokens_scored"),
    ],
)
def test_a_budget_that_does_not_suffice(text: str, axis: str, total: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(phases(text), axis, total, LENGTHS, SIZES)


def test_what_a_phase_leaves_goes_to_the_next() -> None:
    assert budget_left([10, 20, 30], []) == 10
    assert budget_left([10, 20, 30], [12]) == 18  # it spent too much
    assert budget_left([10, 20, 30], [4]) == 26  # a guard ended it
    assert budget_left([10, 20, 30], [4, 30]) == 26


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing"),
        ("sft+opf", "opf: unknown"),
        ("sft+", "unknown"),
        ("sft:60%+gkd:50%", "110%: at most 100%"),
        ("sft:100%+gkd", "leave nothing"),
        ("sft:1.5", "neither a number of updates"),
        ("sft:0", "neither"),
        ("sft:10,20%", "two sizes"),
        ("sft:task=addition", "share task"),
        ("sft:seed=1", "share seed"),
        ("sft:updates=10", "write METHOD:150"),
        ("sft:lr=1,lr=2", "twice"),
    ],
)
def test_what_is_no_route(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        parse(text)
    assert error.value.field in ("route", "method")


def test_a_route_in_words() -> None:
    sft, gkd = parse(" sft:40% + gkd:lr=1e+3,warmup=2 ")
    assert (sft.method, sft.share, sft.updates, sft.fields) == ("sft", 0.4, 0, ())
    assert (gkd.method, gkd.share, gkd.fields) == ("gkd", None, (("lr", "1e+3"), ("warmup", "2")))
    assert f"{sft}+{gkd}" == "sft:40%+gkd:lr=1e+3,warmup=2"
    assert parse("sft:150")[0].updates == 150
