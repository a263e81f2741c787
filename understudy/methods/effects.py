"""Where an option has an effect: by the cells of a method, and by other options. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

Condition = Callable[[Any], bool]
"""Of a config.Resolved."""


def _is_online(c: Any) -> bool:
    """Whether the guard has something to watch: rewards of the student's own completions."""
    return c.behavior in ("student", "mixture_batch", "mixture_token")


_EVALUATED = (lambda c: c.eval_every > 0 or c.eval_start, "there is no evaluation while it trains: give --eval-every")

EFFECTS: Mapping[str, tuple[Condition, str]] = {
    "base": (lambda c: c.behavior == "base" or c.extrapolates, "only behavior=base and signal=extrapolated use it"),
    "extrapolation": (lambda c: c.signal == "extrapolated", "only signal=extrapolated goes beyond the expert"),
    "beta": (lambda c: c.divergence == "jsd", "only divergence=jsd mixes"),
    "importance_cap": (lambda c: "prefix" in c.importance or c.behavior == "base", "only importance=prefix is capped"),
    "advantage_norm": (lambda c: c.reads_advantages, "only weights advantage and expert_reward have group advantages"),
    **dict.fromkeys(
        ("expert_coef", "expert_anneal", "advantage_coef"),
        (lambda c: c.weight == "expert_reward", "only weight=expert_reward has two parts"),
    ),
    "student_share": (lambda c: c.behavior == "mixture_batch", "only behavior=mixture_batch tosses this coin"),
    "expert_share": (lambda c: c.behavior == "mixture_token", "only behavior=mixture_token tosses this coin"),
    "round_updates": (
        lambda c: c.replay in ("aggregate", "round") or c.behavior == "mixture_token",
        "only replay=aggregate and replay=round have rounds",
    ),
    "token_match": (
        lambda c: c.target == "distribution",
        "only a distribution target compares the vocabularies of two families",
    ),
    "top_k_of": (lambda c: c.top_k > 0, "top_k is 0: nothing is coarsened to top tokens"),
    "drift_limit": (lambda c: c.replay == "fresh", "only fresh completions are compared with their recorded log-probs"),
    "sampler": (lambda c: c.behavior in ("student", "mixture_batch"), "the student samples nothing in training"),
    "guard": (_is_online, "only on-policy training has a guard"),
    **dict.fromkeys(
        ("guard_margin", "guard_error", "guard_gain", "guard_trial", "guard_reach", "guard_rows"),
        (lambda c: c.guard and _is_online(c), "there is no guarded on-policy phase"),
    ),
    "guard_reserve": (
        lambda c: c.guard and _is_online(c) and c.budget > 0,
        "it is a share of --budget, for the guard of an on-policy phase",
    ),
    **dict.fromkeys(("eval_samples", "eval_during"), _EVALUATED),
}  # fmt: skip
"""Field -> (where a value has an effect, why elsewhere it has none). A field that is not here always has one."""


def without_effect(config: Any, names: Iterable[str]) -> dict[str, str]:
    """Those of the fields `names` whose value changes nothing in this training, each with the reason."""
    return {name: EFFECTS[name][1] for name in names if name in EFFECTS and not EFFECTS[name][0](config)}


def without_effect_in_any(configs: Sequence[Any], names: Collection[str]) -> dict[str, str]:
    """The same where no one of several trainings, such as the phases of a route, reads the value."""
    first, *others = ([*without_effect(c, names).items()] for c in configs)
    return {name: why for name, why in first if all(name in dict(other) for other in others)}
