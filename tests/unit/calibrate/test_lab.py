"""The calibration lab: its worlds and learners against the theory, and a small run that a broken rule would fail."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from understudy.calibrate import lab, plots
from understudy.calibrate.evidence import continued, draw, gather, without
from understudy.calibrate.fit import fit
from understudy.calibrate.learners import online_outcome, online_weights, option_values, sft_outcome, sft_weights
from understudy.calibrate.metrics import Row, read_rows, score, write_rows
from understudy.calibrate.worlds import KINDS, family_world, horizon_world, make
from understudy.cli.calibrate import calibrate_command
from understudy.diagnosis.forecast.model import TERMS, load
from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.types import Estimate, Verdict
from understudy.errors import UserError
from understudy.theory.bandit import FamilyF
from understudy.theory.horizon import HZ
from understudy.theory.horizon import KINDS as HORIZONS
from understudy.theory.information import Info


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_is_a_world(kind):
    for seed in range(8):
        w = make(kind, seed)
        for table in (w.expert, w.score, w.options, w.prior):
            assert table.sum(-1) == pytest.approx(1)
        assert w.mu.sum() == pytest.approx(1)
        assert set(np.unique(w.reward)) <= {0.0, 1.0}
        assert w.options.min() > 0
        assert w.score.min() >= 0
        assert w.score[:, (w.start > 1e-6).any(0)].min() > 0
        assert 0 < w.value(w.start) < 1
        again = make(kind, seed)
        assert (again.expert == w.expert).all()
        assert again.n == w.n


def test_no_data_is_the_start():
    for kind in KINDS:
        w = make(kind, 3)
        start = w.value(w.start)
        assert (option_values(w) * sft_weights(w, np.zeros_like(w.expert))).sum() == pytest.approx(start)
        assert online_outcome(w, 0).value == pytest.approx(start)


@pytest.mark.parametrize("n", [1, 20, 400])
def test_family_f_learners_attain_the_bayes_regret(n):
    """Hard students: one informative sample, one score decide a bit: the mixtures are Theorem 2's Bayes rules."""
    family = FamilyF(6, 0.05, 0.0, "D", None, (0, 1, 2, 3))
    w = family_world(family, n)
    assert w.exact_sft is not None
    found = sft_outcome(dataclasses.replace(w, exact_sft=None), n, np.random.default_rng(0), 4096)
    assert found.value == pytest.approx(w.exact_sft(n), abs=4 * found.error + 5e-4)
    assert online_outcome(w, n).value == pytest.approx(1 - family.regret(Info.ON_G, n), abs=0.03)


@pytest.mark.parametrize("kind", HORIZONS)
def test_horizon_learners_attain_the_bayes_regret(kind):
    family = HZ(kind, 5, 0.2, 0.0, 3)
    w = horizon_world(family, 2, 12)
    assert w.exact_sft is not None
    found = sft_outcome(dataclasses.replace(w, exact_sft=None), 12, np.random.default_rng(1), 4096)
    assert found.value == pytest.approx(w.exact_sft(12), abs=4 * found.error + 1e-3)
    known_share = 1 - family.regret(Info.ON_G, 12) * 3 / 5
    assert online_outcome(w, 12).value == pytest.approx(known_share, abs=0.02)


def test_the_exact_online_outcome_is_the_mean_of_replications():
    w = make("harmful", 5)
    rng = np.random.default_rng(2)
    visits = rng.multinomial(64, w.mu, 4000).astype(float)
    values = np.einsum("rxk,xk->r", online_weights(w, visits), option_values(w))
    assert online_outcome(w, 64).value == pytest.approx(values.mean(), abs=4 * values.std() / 4000**0.5 + 1e-6)


def test_with_plenty_of_data_both_learners_project():
    """Forward and reverse projections, context by context: the two limits of section 3."""
    w = make("trap", 1)
    huge = w.expert * w.mu[:, None] * 1e6
    by_samples = sft_weights(w, huge).argmax(-1)
    forward = -(w.expert[None] * np.log(w.options)).sum(-1)
    assert (by_samples == forward.argmin(0)).all()
    reverse = (w.options * (np.log(w.options) - np.log(w.score))).sum(-1)
    assert (online_weights(w, w.mu * 1e7).argmax(-1) == reverse.argmin(0)).all()


def test_evidence_estimates_what_it_says():
    w = make("benign", 2)
    found = gather(w, np.random.default_rng(0), lab.Design(prompts=4000, samples=4))
    start = w.start
    exact = {
        "student_accuracy": w.value(start),
        "expert_accuracy": w.value(w.expert),
        "kl_student_expert": float(w.mu @ (start * np.log(start / w.score)).sum(-1)),
        "kl_expert_student": float(w.mu @ (w.expert * np.log(w.score / start)).sum(-1)),
        "takeover_gain": float(w.mu @ (start * (continued(w, w.score, 1) - w.reward)).sum(-1)),
    }
    for name, value in exact.items():
        e = found.measures[name]
        assert abs(e.value - value) < 2.5 * (e.high - e.low) / 2 + 1e-9, name
    assert [p.samples for p in found.pilots if p.kind == "sft"] == sorted(
        {max(1, round(w.n / s)) for s in (64, 32, 16)}
    )
    less = without(found, "scores", "opd")
    assert less.capabilities == ("sample",)
    assert not any(p.kind == "opd" or p.kl_student_expert for p in less.pilots)


def test_draws_follow_their_law():
    law = np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    y = draw(np.repeat(law, 2000, 0), 2, np.random.default_rng(0))
    assert (y[2000:] == 1).all()
    assert (y[:2000] == 2).mean() == pytest.approx(0.5, abs=0.05)


# --- scoring ---------------------------------------------------------------------------------------------


def _est(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value, value - half, value + half, 100, "accuracy", "test")


def _row(answer: str, student: float, sft: float, opd: float, half: float = 0.0, sure: float = 0.9) -> Row:
    rest = (1 - sure) / 3
    p = {a: sure if a == answer else rest for a in ANSWERS}
    outcome = {"student": _est(student, half), "sft": _est(sft, half), "opd": _est(opd, half)}
    return Row("s", "k", 0, outcome, None, Verdict(answer, p, {}, ("r",), ("w",), "test"), 0.05)


def test_score_counts_what_it_says():
    rows = [
        _row("go online", 0.4, 0.5, 0.8),  # right
        _row("go online", 0.4, 0.8, 0.8),  # clearly wrong
        _row("go online", 0.4, 0.7, 0.74),  # wrong by a close call: .04 against a margin of .05
        _row("neither", 0.4, 0.5, 0.5, half=0.08),  # wrong, but the outcome itself is that unsure
        _row("undecided", 0.4, 0.5, 0.8),
    ]
    found = score(rows)
    assert (found.n, found.decided, found.wrong, found.clearly_wrong, found.close) == (5, 4, 3, 1, 2)
    assert found.confusion["go online"] == {"offline suffices": 0, "go online": 1, "neither": 0, "undecided": 1}
    assert found.cost_share == pytest.approx(0.05)
    assert found.kinds["k"].n == 5
    right, rest = 0.9, 0.1 / 3
    assert score(rows[:1]).brier == pytest.approx((1 - right) ** 2 + 3 * rest**2)
    assert sum(b.n for b in found.bins) == 20
    with pytest.raises(UserError):
        score([])


def test_rows_survive_their_file(tmp_path):
    rows = [dataclasses.replace(lab.row("benign", 1)[0], verdict=_row("neither", 0.1, 0.2, 0.3).verdict)]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    (tmp_path / "bad.jsonl").write_text('{"scenario": "x"}\n')
    with pytest.raises(UserError):
        read_rows(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError):
        read_rows(tmp_path / "bad.jsonl")


# --- the small lab ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return lab.calibrate(lab.LabConfig(worlds=14, dev=20, lesser=6))


def test_the_small_lab_is_right_where_it_decides(small):
    """112 worlds. A rule with the routes swapped, a sign wrong or errors too small fails one of these by far."""
    found = small.found
    assert found.decided_share > 0.25
    assert found.wrong / found.decided < 0.25
    assert found.brier < 0.52
    assert found.brier < small.before.brier
    sure = [b for b in found.bins if b.claimed > 0.8]
    assert sum(b.n * b.happened for b in sure) / sum(b.n for b in sure) > 0.8
    unlikely = [b for b in found.bins if b.claimed < 0.2]
    assert sum(b.n * b.happened for b in unlikely) / sum(b.n for b in unlikely) < 0.12


def test_a_broken_rule_would_be_noticed(small):
    """The same score on verdicts whose two routes are exchanged is far below."""
    swap = {"go online": "offline suffices", "offline suffices": "go online"}
    broken = []
    for r in small.rows:
        assert r.verdict is not None
        probabilities = {swap.get(a, a): x for a, x in r.verdict.probabilities.items()}
        answer = swap.get(r.verdict.answer, r.verdict.answer)
        broken.append(
            dataclasses.replace(r, verdict=dataclasses.replace(r.verdict, answer=answer, probabilities=probabilities))
        )
    assert score(broken).brier > small.found.brier + 0.3


def test_the_lab_writes_its_table_and_plot(small, tmp_path):
    lab.write(small, tmp_path)
    written = json.loads((tmp_path / "lab.json").read_text())
    assert written["score"]["n"] == 14 * len(KINDS)
    page = (tmp_path / "lab.md").read_text()
    assert "seeds 10000 to 10013" in page
    assert all(f"| {kind} |" in page for kind in KINDS)
    assert all(f"| {name} |" in page for line in TERMS.values() for name in line)
    svg = (tmp_path / "lab.svg").read_text()
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert plots.reliability({"a": small.found, "b": small.before}).count("<svg") == 1


def test_less_evidence_decides_less(small):
    assert small.lesser["no pilots at all"].decided <= small.full.decided
    assert small.lesser["no online pilot"].brier >= small.full.brier - 0.02


def test_command_line_mistakes(tmp_path):
    for words in (["nothing"], ["lab", "--kinds", "odd"], ["lab", "--dev", "1"], ["score"], ["fit", "--rows", "none"]):
        with pytest.raises(UserError):
            calibrate_command(words)
    assert calibrate_command(["--help"]) == 0


def test_fit_and_score_from_a_file(tmp_path, capsys):
    rows = [dataclasses.replace(lab.row("benign", seed)[0], set="set") for seed in range(6)]
    write_rows(tmp_path / "r.jsonl", rows)
    out = tmp_path / "m.json"
    assert calibrate_command(["fit", "--rows", str(tmp_path / "r.jsonl"), "--prior", "prior", "--out", str(out)]) == 0
    assert calibrate_command(["score", "--rows", str(tmp_path / "r.jsonl"), "--model", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n"] == 6
    fitted = fit([r.case() for r in rows], load("prior"))
    assert fitted.lines["all"]["sft"].slopes == pytest.approx(load("prior").lines["all"]["sft"].slopes, abs=0.8)
