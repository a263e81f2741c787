"""What an update of a row is expected to cost is what its ledger then has, where the lengths are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.config import resolve
from understudy.experts.privileged import parse_self, with_context
from understudy.methods.price import Lengths, Sizes, flops_per_update, tokens_per_update
from understudy.policy import load_policy
from understudy.routes.look import load_models, look
from understudy.routes.route import RouteConfig
from understudy.runs.read import read_ledger, read_metrics, read_provenance
from understudy.tasks import load_task
from understudy.terminal import no_progress
from understudy.training.train import train

STUDENT = "scratch:width=16,layers=1,heads=2,context=256"
GOLD = "self:context=gold"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("sft", {"expert": GOLD}),
    ("word_kd", {"expert": GOLD}),
    ("word_kd", {"expert": GOLD, "prompt_pool": 4}),
    ("opd", {"expert": f"{GOLD},frozen=false"}),
    ("opd_full", {"expert": GOLD}),
    ("opd_full", {"expert": GOLD, "sft_alpha": 0.5}),
    ("opd_reward", {}),
    ("opd_full_reward", {"expert": f"{GOLD},frozen=false"}),
    ("exopd", {}),
    ("exopd", {"expert": GOLD, "sft_alpha": 0.5}),
    ("opd_full", {"signal": "extrapolated"}),
    ("base_opd", {"signal": "extrapolated", "prompt_pool": 4}),
    ("dagger", {"expert": GOLD}),
]


@pytest.mark.parametrize(("method", "changes"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_the_price_is_the_ledger(method: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Catches a context that is read for nothing, a base that is not paid, and text counted in one of the two only."""
    c = config(method, tmp_path / "run", student=STUDENT, updates=1, **changes)
    paid, facts, resolved = read_ledger(train(c)), read_provenance(tmp_path / "run"), resolve(c)
    task = load_task(c.task)
    student = load_policy(STUDENT, "student", task.tokenizer(), c.seed, "cpu")
    plain = task.prompts("train", 4, c.seed)
    theirs = [with_context(p, task, parse_self(c.expert)) for p in plain] if c.expert.startswith("self") else plain
    n, k = 4, resolved.samples_per_prompt
    prompt, expert_prompt = (sum(len(p.ids) for p in student.encode(x)) / n for x in (plain, theirs))
    written = [paid[f"{who}_tokens_sampled"] / (n * k) for who in ("student", "expert")]
    written = [written[0]] * 2 if method == "dagger" else written  # both write, and the ledger calls it the student's
    assert (expert_prompt > prompt + 10) == (theirs is not plain)
    lengths = Lengths(prompt, written[0], written[1], expert_prompt=expert_prompt)
    wanted = tokens_per_update(resolved, lengths, 1)
    columns = {name: paid[name] for name in wanted if "seconds" not in name and name != "flops"}
    assert columns == pytest.approx({name: wanted[name] for name in columns})
    (line,) = read_metrics(tmp_path / "run", "train")
    assert line["entropy"] > 0
    assert (line["expert_entropy"] is not None) == (resolved.target == "distribution")
    sizes = Sizes(facts["student"]["parameters"], facts["expert"]["provenance"].get("parameters") or 0)
    assert paid["flops"] == pytest.approx(flops_per_update(resolved, lengths, sizes, 1))


def test_a_look_counts_and_times_what_a_phase_does(tmp_path: Path) -> None:
    """The context, the base's pass and the text of sft_alpha are in a look's ledger; old looks are still read."""
    train_config = config("sft", tmp_path / "run", student=STUDENT, expert=GOLD)
    route = RouteConfig("exopd:2,sft_alpha=0.5+opd_full:2", 4, train=train_config)
    measured = look(route, load_models(route, print), no_progress)
    spent, known = measured.ledger, measured.lengths
    assert known.expert_prompt > known.prompt + 10
    # the expert samples once and scores for both methods
    assert spent["expert_prompt_tokens"] == pytest.approx(3 * 4 * known.expert_prompt)
    assert spent["student_tokens_trained"] == pytest.approx(4 * (2 * known.student + known.expert))
    assert spent["base_tokens_scored"] == pytest.approx(4 * (known.prompt + known.student))
    old = measured.to_dict()
    del old["lengths"]["expert_prompt"]
    assert type(measured).from_dict(old).lengths.expert_prompt == 0
