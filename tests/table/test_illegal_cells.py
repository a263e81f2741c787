"""Combinations of cells: every rule can refuse, and every combination trains or is refused with a reason."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from test_rows import Watched
from tiny import config

from understudy.config import TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.methods.cells import BEHAVIORS, IMPORTANCES, REPLAYS, TARGETS, WEIGHTS
from understudy.methods.table import RULES, TABLE, Rule
from understudy.specs import build

CELLS: dict[str, tuple[str, ...]] = {
    "behavior": tuple(BEHAVIORS), "target": tuple(TARGETS), "weight": tuple(WEIGHTS), "replay": tuple(REPLAYS),
    "importance": tuple(IMPORTANCES),
}  # fmt: skip

CRAFTED: list[dict[str, Any]] = [
    {"method": "opd", "target": "expert_token"},
    {"method": "opd", "behavior": "expert"},
    {"method": "grpo", "behavior": "base"},
    {"method": "grpo", "samples_per_prompt": 1},
    {"method": "sft", "behavior": "student"},
    {"method": "opd_full", "replay": "fixed"},
    {"method": "opd", "replay": "round"},
    {"method": "word_kd", "replay": "aggregate"},
    {"method": "opd", "behavior": "base", "importance": "none"},
    {"method": "opd", "importance": "prefix"},
    {"method": "sft", "importance": "token"},
    {"method": "opd_full", "updates_per_rollout": 2},
    {"method": "opd_full_reward", "updates_per_rollout": 2},
    {"method": "opd_reward", "target": "expert_token"},
    {"method": "opd_reward", "expert_coef": 0.0, "advantage_coef": 0.0},
    {"method": "sft", "clip": 0.2},
    {"method": "sft", "gamma": 0.5},
    {"method": "opd", "gamma": 1.5},
    {"method": "opd", "gamma": -0.5},
    {"method": "opd", "behavior": "base", "gamma": 0.5},
    {"method": "sft", "target": "distribution"},
    {"method": "grpo", "signal": "extrapolated"},
    {"method": "sft", "divergence": "jsd"},
    {"method": "gkd", "beta": 1.0},
    {"method": "gkd", "beta": 0.0},
    {"method": "sft", "top_k": 4},
    {"method": "opd_full", "top_k": 4, "divergence": "uld"},
    {"method": "opd", "temperature": 0.7},
    {"method": "opd", "top_p": 0.9},
    {"method": "gkd", "sft_alpha": 0.25},
    {"method": "gkd_reward", "target": "token"},
    {"method": "gkd_reward", "samples_per_prompt": 1},
    {"method": "gkd_reward", "replay": "aggregate", "behavior": "mixture_token"},
    {"method": "grpo", "behavior": "mixture_batch"},
]


def refusal(fields: dict[str, Any]) -> UserError | None:
    """The refusal of a configuration, None if it is legal."""
    try:
        resolve(TrainConfig(**({"student": "s", "expert": "e"} | fields)))
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.field)
def test_every_rule_refuses_something(rule: Rule) -> None:
    """Catches a rule that can never fire (an earlier one hides it), names another field, or gives no reason."""
    errors = [error for fields in CRAFTED if (error := refusal(fields)) is not None]
    matching = [e for e in errors if e.hint.endswith(rule.reason)]
    assert matching, f"no configuration in CRAFTED meets this rule first: {rule.reason}"
    for error in matching:
        assert error.field == rule.field
        assert len(rule.reason) > 20 or "[0, 1]" in rule.reason
        assert "\n" not in str(error)


@pytest.mark.parametrize("fields", CRAFTED, ids=lambda f: "-".join(map(str, f.values())))
def test_every_crafted_mistake_is_refused(fields: dict[str, Any]) -> None:
    """Catches a rule that was dropped: each of these fires because of the last field given."""
    error = refusal(fields)
    assert error is not None
    last = list(fields)[-1]
    without = {k: v for k, v in fields.items() if k != last}
    again = refusal(without)
    assert again is None or again.hint != error.hint


def test_a_rule_names_the_field_that_breaks_it() -> None:
    """Catches --top-p 0.9 being reported as `temperature: 1.0`."""
    error = refusal({"method": "opd", "top_p": 0.9})
    assert error is not None
    assert (error.field, error.value) == ("top_p", 0.9)


def every_combination() -> list[dict[str, str]]:
    return [dict(zip(CELLS, values)) for values in itertools.product(*CELLS.values())]


def completed(cells: dict[str, str]) -> dict[str, Any]:
    divergence = {"divergence": "jsd"} if cells["target"] == "distribution" else {}
    return cells | divergence | {"signal": "expert", "samples_per_prompt": 2}


LEGAL = [c for c in every_combination() if refusal({"method": "opd"} | completed(c)) is None]


def test_every_combination_is_legal_or_refused_with_a_reason() -> None:
    """Catches a combination that slips through without a rule, crashes the rules, or is refused without a reason."""
    for cells in every_combination():
        error = refusal({"method": "opd"} | completed(cells))
        if error is not None:
            assert error.field in {*CELLS, "samples_per_prompt"}, error
            assert "not legal for method" in error.hint
            assert error.hint.partition(": ")[2]
    for row in TABLE.values():
        cells = {name: getattr(row, name) for name in CELLS}
        assert cells in LEGAL, f"the table's own row {row.name} is refused"


def test_legality_does_not_depend_on_the_row_one_started_from() -> None:
    """Catches a default of a row that changes cells that were all given."""
    for cells in every_combination():
        verdicts = {m: refusal({"method": m} | completed(cells)) is None for m in TABLE}
        assert len(set(verdicts.values())) == 1, f"{cells}: {verdicts}"


def advice(hint: str) -> list[dict[str, str]]:
    """The cells that a refusal suggests: each alone, and all together."""
    words = hint.replace(",", " ").replace(":", " ").split()
    pairs = [(w[2:], words[i + 1]) for i, w in enumerate(words[:-1]) if w.startswith("--")]
    single = [{name: value} for name, value in pairs if value in CELLS.get(name, ())]
    return [*single, dict(pair for one in single for pair in one.items())]


def way_out(cells: dict[str, str]) -> bool:
    """Whether following the advice, step by step, ends at a legal configuration."""
    waiting, seen = [cells], set()
    while waiting:
        now = waiting.pop()
        if tuple(now.items()) in seen:
            continue
        seen.add(tuple(now.items()))
        error = refusal({"method": "opd"} | completed(now))
        if error is None:
            return True
        waiting += [now | cell for cell in advice(error.hint)]
    return False


def test_advice_never_goes_in_circles() -> None:
    """Catches two rules with circular advice: "use --importance token", "use --importance none"."""
    stuck = [cells for cells in every_combination() if not way_out(cells)]
    assert not stuck, f"{len(stuck)} combinations, first {stuck[0]}"


@pytest.mark.parametrize("method", TABLE)
def test_a_single_other_cell_is_legal_or_refused_with_a_reason(method: str) -> None:
    """Catches defaults of a row that make a legal neighbour illegal, or that change when config.json is read back."""
    for name, values in CELLS.items():
        for value in values:
            fields = {"method": method, "student": "s", "expert": "e", name: value}
            error = refusal(fields)
            if error is None:
                once = resolve(build(TrainConfig, fields, ""))
                back = json.loads(json.dumps(to_dict(once)))
                assert resolve(build(TrainConfig, back, "config")) == once, "config.json means something else"
            else:
                assert len(error.hint) > 20


@pytest.mark.parametrize("cells", LEGAL, ids=lambda c: "-".join(c.values()))
def test_every_legal_combination_trains(cells: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches labels that belong to another rollout (passed completions next to cached labels), a cache that is not
    used, a ledger that counts twice, and crashes, in all combinations that no row of the table uses."""
    c = config("opd", tmp_path / "run", **completed(cells))
    run = Watched(c, monkeypatch)
    assert len(run.lines) == 2
    if cells["behavior"] != "mixture_batch" or cells["weight"] == "one":
        assert run.trained > 0
    assert {name: run.ledger[name] for name in run.requested} == run.requested
    if cells["replay"] in ("round", "aggregate") and cells["target"] == "expert_token":
        labelled_once = sum(e.scored for e in run.experts)
        acted = run.ledger["student_tokens_sampled"] + run.ledger["expert_tokens_sampled"]
        # a mixture also calls the expert at each token while acting
        assert labelled_once == acted * (2 if cells["behavior"] == "mixture_token" else 1)


@pytest.mark.parametrize(
    ("behavior", "target"), [(b, t) for b in ("expert", "base") for t in TARGETS if (b, t) != ("base", "token")]
)
def test_a_pool_used_twice_with_dropped_completions(
    behavior: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches cached expert distributions that shift by one row when a failed completion is dropped."""
    cells = dict(zip(CELLS, (behavior, target, "passed", "fixed", "none")))
    run = Watched(config("opd", tmp_path / "run", prompt_pool=4, updates=3, **completed(cells)), monkeypatch)
    assert len(run.lines) == 3
    assert {name: run.ledger[name] for name in run.requested} == run.requested
