"""The first look of an auto: lengths and pace, how good student and expert are, what a phase would cost."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from understudy import distributed
from understudy.config import TrainConfig, resolve
from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.evaluation.sampled import sample_expert, sample_policy
from understudy.experts import load_expert
from understudy.methods.price import flops_per_update, tokens_per_update
from understudy.policy import check_same_language
from understudy.policy.room import check_lengths
from understudy.randomness import seed_from
from understudy.routes import gains
from understudy.routes.auto_config import AutoConfig, checked, phase_of
from understudy.routes.budget import Budget
from understudy.routes.look import Measured, Models, fresh_prompts, here, look
from understudy.routes.policy import OFFLINE, START, STOP, Known, Node, Policy, Value, decide, methods_for
from understudy.routes.reserve import GUARD, first_looks, reserve_of
from understudy.routes.route import RouteConfig
from understudy.tasks import load_task
from understudy.terminal import Progress
from understudy.training.checks import check_assignment
from understudy.training.session import load_model
from understudy.types import Ledger, flops_of, prompt_tokens

FIRST = 10
"""Updates that the first phase must have at least."""
PART = 64
"""Prompts of a look that are completed together."""


def first_look(
    config: AutoConfig, budget: Budget, shared: TrainConfig, progress: Progress,
    experts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What look.json holds: lengths, pace, methods that this expert serves, accuracy of student and expert.

    experts: the looks at several experts, this one among them (auto_experts.py).
    UserError: an expert that serves none, a budget below the first phase's price.
    """
    shared = here(shared)
    task = load_task(shared.task)
    plain = resolve(dataclasses.replace(shared, method=OFFLINE))
    student = load_model(shared.student, "student", plain, task)
    check_assignment(plain, task)
    expert = load_expert(plain.expert_spec, task, student)
    check_same_language(student, expert, shared.expert)
    methods = methods_for(expert.capabilities, task.verified and not config.imitate_only)
    if not methods:
        raise UserError("expert", shared.expert, "can neither be sampled nor score: no method can imitate it")
    check_lengths(task, student, ("train", "test"), plain.max_new_tokens or task.max_new_tokens)
    models = Models(task, student, expert)
    phases = (f"{m}:prompts_per_update={phase_of(shared, m).prompts_per_update}" for m in methods)
    route = RouteConfig("+".join(phases), train=shared)
    route = dataclasses.replace(route, look_prompts=min(route.look_prompts, config.look_prompts))
    measured = look(route, models, progress)
    out: dict[str, Any] = {"methods": methods, "measured": measured.to_dict(), "verified": task.verified, "looks": {}}
    budget = in_flops(budget, shared, measured)
    prices = {method: price_of(budget, shared, measured, method) for method in methods}
    for method in methods:
        if not prices[method] > 0:
            hint = f"{method} spends no {budget.axis.replace('_', ' ')}: give time, FLOPs, money or updates"
            raise UserError("budget", config.budget, hint)
    first = FIRST * prices[methods[0]]
    if budget.amount < first:
        hint = f"{FIRST} updates of {methods[0]} already take {budget.shown(first)}: give more"
        raise UserError("budget", config.budget, hint)
    updates = budget.amount / prices[methods[-1]]
    out["trained"] = min(20_000, round(updates * plain.prompts_per_update))
    if task.verified:
        for name in (START, "expert"):
            progress("look", 0, 1, name)
            known = [one["look"] for one in (experts or {}).values() if one["expert"] == config.expert]
            if name == "expert" and known:
                out["looks"][name] = known[0]
            else:
                out["looks"][name] = rewards_of(config, shared, models, name == "expert", out["trained"], measured)
    others = [one["look"]["ledger"] for one in (experts or {}).values()
              if "look" in one and one["expert"] != config.expert]  # fmt: skip
    looks = (
        sum(map(budget.spent, others)) + first_looks(budget, out) + reserve_of(budget, out, max(prices.values())).after
    )
    if budget.amount < looks + first:
        hint = f"the looks take {budget.shown(looks)} and {FIRST} updates of {methods[0]} {budget.shown(first)}"
        raise UserError("budget", config.budget, f"{hint}: give more, or fewer --look-prompts")
    return out


def in_flops(budget: Budget, shared: TrainConfig, measured: Measured) -> Budget:
    """A budget of so many updates of a method, in FLOPs."""
    if not budget.method:
        return budget
    row = resolve(dataclasses.replace(shared, method=budget.method))
    return budget.in_flops(flops_per_update(row, measured.lengths, measured.sizes))


def price_of(budget: Budget, shared: TrainConfig, measured: Measured, method: str) -> float:
    """What an update of `method` is expected to take of the budget."""
    row = resolve(phase_of(shared, method))
    tokens = tokens_per_update(row, measured.lengths)
    flops = flops_per_update(row, measured.lengths, measured.sizes)
    return budget.per_update(tokens, flops, measured.paces.get(method, math.nan))


def rewards_of(
    config: AutoConfig, shared: TrainConfig, models: Models, by_expert: bool, trained: int, measured: Measured,
    payable: Callable[[dict[str, Any]], bool] = lambda ledger: True,
) -> dict[str, Any]:  # fmt: skip
    """Rewards on the look's prompts, the same for every model, and the ledger of finding out.

    payable: whether a ledger like this may become larger; a look that may not ends after a part of the prompts.
    """
    began = time.perf_counter()
    c = resolve(dataclasses.replace(shared, method=OFFLINE))
    room = c.max_new_tokens or models.task.max_new_tokens
    prompts = fresh_prompts(models, config.look_prompts, c.seed, "auto look", trained, room)
    seed, ledger = seed_from("auto look", c.seed), Ledger()
    if by_expert:
        assert models.expert is not None
        if "sample" not in models.expert.capabilities or not models.expert.held_out:
            return {}
    rewards: list[float] = []
    for at in range(0, len(prompts), PART):
        part = prompts[at : at + PART]
        if by_expert:
            assert models.expert is not None
            rollouts = sample_expert(models.expert, models.task, part, 1, seed, room).rollouts
            ledger.expert_tokens_sampled += sum(len(r.ids) for r in rollouts)
            ledger.expert_prompt_tokens += models.expert.prompt_tokens(part)
        else:
            rollouts = sample_policy(models.student, models.task, part, 1, seed, room, greedy=False).rollouts
            ledger.student_tokens_sampled += sum(len(r.ids) for r in rollouts)
            ledger.student_prompt_tokens_sampled += prompt_tokens(rollouts)
        rewards += [float(r.reward or 0) for r in rollouts]
        ledger.eval_seconds = time.perf_counter() - began
        ledger.flops = flops_of(ledger.as_dict(), measured.sizes.student, measured.sizes.expert)
        if not distributed.agreed(payable(ledger.as_dict())):
            break
    return distributed.agreed({"rewards": rewards, "ledger": ledger.as_dict()})


def outline(config: AutoConfig, budget: Budget, seen: dict[str, Any]) -> list[str]:
    """What will be done, and what it costs."""
    measured = Measured.from_dict(seen["measured"])
    shared = checked(config)[2]
    dearest = max(price_of(budget, shared, measured, method) for method in seen["methods"])
    spent, reserve = first_looks(budget, seen), reserve_of(budget, seen, dearest)
    known = known_at_start(seen, budget, shared, max(0.0, 1 - (spent + reserve.after) / budget.amount))
    choice = decide(known, Policy(), gains.load())
    lines = [f"budget: {budget.shown(budget.amount)}, in {config.out}; methods: {', '.join(seen['methods'])}"]
    for name, value in (("student", known.start.look), ("expert", known.expert)):
        if value is not None:
            lines.append(f"{name}: {100 * value.mean:.1f}% [{100 * value.low:.1f}, {100 * value.high:.1f}] "
                         f"on {value.prompts} fresh prompts")  # fmt: skip
    if choice.option.method == STOP:
        return [*lines, f"first: stop, because {choice.why}"]
    pace = measured.paces.get(choice.option.method, math.nan)
    updates = choice.option.share * budget.amount / price_of(budget, shared, measured, choice.option.method)
    lasts = "" if math.isnan(pace) else f", about {max(1, round(updates * pace / 60))} min"
    amount = budget.shown(choice.option.share * budget.amount)
    looks = f"looks: {spent / budget.amount:.1%} of the budget so far, about {reserve.look / budget.amount:.1%} after "
    looks += f"each phase; the guard may use {GUARD:.0%} of an online phase. All of it is inside the budget"
    return [
        *lines,
        looks,
        f"first: {choice.option.method}, about {updates:.0f} updates{lasts}, {amount}; then it decides again",
    ]


def known_at_start(seen: dict[str, Any], budget: Budget, shared: TrainConfig, left: float = 1.0) -> Known:
    start, methods = Node(START, look=value_of(seen["looks"].get(START))), tuple(seen["methods"])
    updates, row = 0, resolve(dataclasses.replace(shared, method=Policy().on_trial))
    if row.method in methods:
        updates = round(budget.amount / price_of(budget, shared, Measured.from_dict(seen["measured"]), row.method))
    return Known((start,), value_of(seen["looks"].get("expert")), left, methods, updates, row.warmup)


def value_of(entry: dict[str, Any] | None) -> Value | None:
    """The accuracy that a look measured; None: nothing verifies."""
    if not entry:
        return None
    i = intervals.bootstrap_prompts(entry["rewards"])
    return Value(i.value, i.low, i.high, len(entry["rewards"]))
