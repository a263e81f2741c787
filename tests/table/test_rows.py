"""Every row of the table trains, has the costs that it states, and writes a model that transformers can load."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CountingExpert, check_labels, config

from understudy.config import TrainConfig, resolve
from understudy.methods.table import TABLE, needs_expert
from understudy.runs.read import read_ledger, read_metrics, read_provenance, read_status
from understudy.training import acting as acting_module
from understudy.training import session as session_module
from understudy.training import train as train_module
from understudy.training.train import train


class Watched:
    """A run with independent counts of expert calls and of student samples."""

    def __init__(self, c: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.experts: list[CountingExpert] = []
        self.drawn = 0
        resolved = resolve(c)
        load_expert, draw, update = session_module.load_expert, acting_module.draw, train_module.update

        def counting_expert(*args: Any) -> CountingExpert:
            self.experts.append(CountingExpert(load_expert(*args)))
            return self.experts[-1]

        def counting_draw(*args: Any, **options: Any) -> Any:
            out = draw(*args, **options)
            self.drawn += sum(len(r.ids) for r in out)
            return out

        def checking_update(student: Any, optimizer: Any, labelled: Any, *rest: Any) -> Any:
            check_labels(labelled, resolved, lambda: self.experts[0].expert)
            return update(student, optimizer, labelled, *rest)

        monkeypatch.setattr(session_module, "load_expert", counting_expert)
        monkeypatch.setattr(acting_module, "draw", counting_draw)
        monkeypatch.setattr(train_module, "update", checking_update)
        self.path = train(c)
        self.ledger = read_ledger(self.path)
        self.lines = read_metrics(self.path, "train")
        self.trained = sum(line["tokens"] for line in self.lines)

    @property
    def requested(self) -> dict[str, int]:
        """The columns of the ledger, from the independent counts."""
        return {
            "expert_calls": sum(e.calls for e in self.experts),
            "expert_tokens_scored": sum(e.scored for e in self.experts),
            "expert_tokens_sampled": sum(e.sampled for e in self.experts),
            "student_tokens_sampled": self.drawn,
            "student_tokens_trained": self.trained,
            "updates": len(self.lines),
        }


def check_run(run: Watched, c: TrainConfig) -> None:
    """Asserts: finished, finite, loadable, weights changed; each column of the ledger equals the independent count."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert read_status(run.path)["state"] == "done"
    assert len(run.lines) == c.updates
    for line in run.lines:
        for name in ("loss", "grad_norm", "length"):
            value = math.nan if line[name] is None else line[name]
            assert math.isfinite(value), f"{name} of update {line['step']}"
        assert line["tokens"] > 0
        if line["logp_drift"] is not None:
            assert line["logp_drift"] < 1e-5, "recomputed and recorded log-probs differ"
    for line in read_metrics(run.path, "eval"):
        assert math.isfinite(line["sampled"])
    paid = {name: run.ledger[name] for name in run.requested}
    assert paid == run.requested
    model = AutoModelForCausalLM.from_pretrained(run.path / "final")
    AutoTokenizer.from_pretrained(run.path / "final")
    trained = model.get_input_embeddings().weight.detach()
    assert torch.isfinite(trained).all()
    from understudy.policy import load_policy
    from understudy.tasks import load_task

    start = load_policy(c.student, "student", load_task(c.task).tokenizer(), c.seed, "cpu")
    assert (trained - start.model.get_input_embeddings().weight).abs().max() > 1e-5, "the weights did not change"
    assert json.loads((run.path / "final.json").read_text())["splits"]["test"]["keys"]


CASES = [
    (m, e) for m in TABLE for e in ("solver", "model") if e == "solver" or needs_expert(resolve(config(m, Path("x"))))
]


@pytest.mark.parametrize(("method", "expert"), CASES)
def test_row_trains_and_pays(method: str, expert: str, models: dict[str, Path], tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Catches a row that crashes, does not learn, mixes up labels, or has a ledger that omits or counts twice.

    Hand-checked columns, in tokens: T = trained, by row.
    """
    spec = str(models["llama"]) if expert == "model" else expert
    changes: dict[str, Any] = {"expert": spec if needs_expert(resolve(config(method, tmp_path))) else ""}
    if method == "base_opd":
        changes |= {"prompt_pool": 8, "updates": 4}  # two passes over the pool
    if method in ("gkd", "gkd_reward"):
        changes |= {"updates": 4, "seed": 1}  # both actors are drawn
    c = config(method, tmp_path / "run", **changes)
    run = Watched(c, monkeypatch)
    check_run(run, c)
    t, paid, rows = run.trained, run.ledger, 8
    names = ("expert_calls", "expert_tokens_sampled", "expert_tokens_scored", "student_tokens_sampled")
    columns = [paid[name] for name in names]
    if method in ("sft", "seq_kd"):  # the expert writes everything and scores nothing
        assert columns == [2 * rows, t, 0, 0]
    elif method == "word_kd":  # it writes, then scores its own
        assert columns == [2 * 2 * rows, t, t, 0]
    elif method in ("gkd", "gkd_reward"):  # it scores, whether student or expert samples
        written = paid["expert_tokens_sampled"]
        assert 0 < written < t
        by_expert = columns[0] - 4 * rows
        assert by_expert % rows == 0
        assert columns[1:] == [written, t, t - written]
    elif method == "dagger":  # a call per token while acting, one for its label; earlier rounds cost nothing
        acted = paid["student_tokens_sampled"]
        assert columns == [2 * 2 * rows, 0, 2 * acted, acted]
    elif method in (
        "opd",
        "opd_full",
        "exopd",
        "opd_reward",
        "opd_full_reward",
    ):  # exactly the student's tokens are scored
        assert columns == [2 * rows, 0, t, t]
    elif method == "base_opd":  # scored once, used twice
        assert columns == [2 * rows, 0, t // 2, t // 2]
        assert t % 2 == 0
    elif method == "grpo":
        assert columns == [0, 0, 0, t]
    elif method == "rft":  # failed completions are counted as cost and not trained on
        assert columns[:3] == [0, 0, 0]
        assert t < columns[3]
    else:
        pytest.fail(f"no hand-checked ledger for {method}: add one")
    # each update's prompts once; the student's group shares the prompt that it reads
    sizes = read_provenance(run.path)
    student, teacher = sizes["student"]["parameters"], 0
    if expert == "model" and paid["expert_calls"]:
        teacher = sizes["expert"]["provenance"]["parameters"]
    by_hand = 2 * teacher * (columns[1] + columns[2] + paid["expert_prompt_tokens"])
    by_hand += 2 * student * (columns[3] + paid["student_prompt_tokens_sampled"] + paid["base_tokens_scored"])
    base_read = columns[2] + paid["expert_prompt_tokens"] if method == "exopd" else 0
    assert paid["base_tokens_scored"] == base_read
    by_hand += 6 * student * (t + paid["student_prompt_tokens_trained"])
    assert paid["flops"] == pytest.approx(by_hand)
    assert paid["student_prompt_tokens_trained"] > 0
    assert bool(paid["expert_prompt_tokens"]) == bool(columns[1] + columns[2])
    assert bool(paid["student_prompt_tokens_sampled"]) == bool(columns[3])


KINDS: list[dict[str, Any]] = [
    {"divergence": "kl_expert_student"},
    {"divergence": "kl_student_expert"},
    *({"divergence": "jsd", "beta": beta} for beta in (0.1, 0.5, 0.9)),
]


@pytest.mark.parametrize("cells", KINDS, ids=lambda c: "-".join(map(str, c.values())))
def test_divergence_trains(cells: dict[str, Any], tmp_path: Path) -> None:
    """Catches a divergence that is not finite where the expert puts (nearly) nothing, or one that goes negative.

    A coarsened divergence is a lower bound of the whole one on the same rollouts (data processing), it grows with
    the tokens kept, and keeping all but one loses nothing.
    """

    def first_loss(name: str, **changes: Any) -> float:
        c = config("opd_full", tmp_path / name, updates=1, final_prompts=1, **(cells | changes))
        return float(read_metrics(train(c), "train")[0]["loss"])

    whole = first_loss("whole")
    assert 0 < whole < 50
    for whose in ("student", "expert"):
        coarse = [first_loss(f"{whose}-{k}", top_k=k, top_k_of=whose) for k in (1, 16)]
        assert 0 <= coarse[0] <= coarse[1] + 1e-4 <= whole + 2e-4
    assert first_loss("all", top_k=1000) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("method", ["opd_full", "gkd", "word_kd", "opd_full_reward", "base_opd"])
def test_the_sorted_distance_trains(method: str, tmp_path: Path) -> None:
    """Catches a row that reads it as a KL: it lies in [0, 2]. With rewards, its part of the loss does."""
    run = train(config(method, tmp_path / "run", divergence="uld"))
    for line in read_metrics(run, "train"):
        assert 0 < line.get("loss_expert", line["loss"]) <= 2
        assert line["grad_norm"] > 0


def test_extrapolation_from_the_base_to_the_expert(tmp_path: Path) -> None:
    """Catches a base that moves with the student, and one that is read where it should not: 1 is the plain row bit for
    bit, 0 has no gradient at the start."""

    def losses_of(name: str, method: str, **changes: Any) -> list[float]:
        c = config(method, tmp_path / name, updates=3, **changes)
        return [line["loss"] for line in read_metrics(train(c), "train")]

    beyond: dict[str, Any] = {"signal": "extrapolated"}

    for method in ("opd", "opd_full"):
        plain = losses_of(method, method)
        assert losses_of(f"{method}-1", method, extrapolation=1.0, **beyond) == plain
        still = config(method, tmp_path / f"{method}-0", updates=1, extrapolation=0.0, **beyond)
        (line,) = read_metrics(train(still), "train")
        assert line["loss"] == pytest.approx(0.0, abs=1e-6)
        assert line["grad_norm"] < 1e-5
    farther = losses_of("farther", "opd_full", extrapolation=2.0, **beyond)
    assert farther[0] > plain[0]


@pytest.mark.parametrize("method", ["opd", "opd_full", "grpo", "opd_full_reward"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_expert_text_has_its_share_of_the_loss(method: str, reduction: str, tmp_path: Path) -> None:
    """Catches a share that depends on lengths, text that is weighed by rewards, and rewards of the expert's text: the
    loss is (1 - alpha) of the row's own, on the same completions, plus alpha of the expert's text alone."""

    def first(name: str, **changes: Any) -> dict[str, Any]:
        c = config(method, tmp_path / name, seed=1, updates=1, reduction=reduction, **changes)
        (line,) = read_metrics(train(c), "train")
        return line

    alone, mixed, more = (first(str(a), sft_alpha=a) for a in (0.0, 0.2, 0.5))
    for alpha, line in ((0.2, mixed), (0.5, more)):
        assert line["loss"] - line["loss_text"] == pytest.approx((1 - alpha) * alone["loss"], rel=1e-4, abs=1e-6)
        assert (line["reward"], line["entropy"]) == (alone["reward"], pytest.approx(alone["entropy"]))
        assert line["logp_drift"] == pytest.approx(alone["logp_drift"], abs=1e-6)
        assert line["ledger"]["expert_tokens_sampled"] > 0
        assert line["loss_text"] > alpha
    assert "loss_text" not in alone
    assert mixed["ledger"]["expert_calls"] < more["ledger"]["expert_calls"]


def test_the_parts_of_a_loss_with_rewards(tmp_path: Path) -> None:
    """Catches a coefficient that is not annealed, parts that do not add up, and a divergence that is not opd_full's."""
    factors = {"expert_coef": 0.5, "advantage_coef": 2.0, "clip": math.inf, "seed": 1}
    c = config("opd_full_reward", tmp_path / "both", updates=4, expert_anneal=1.0, **factors)
    lines = read_metrics(train(c), "train")
    assert [line["weight_expert"] for line in lines] == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert all(line["loss"] == pytest.approx(line["loss_expert"] + line["loss_reward"], abs=1e-6) for line in lines)
    assert any(line["weight_reward"] > 0.5 for line in lines)
    alone = read_metrics(train(config("opd_full", tmp_path / "alone", updates=1, seed=1)), "train")[0]
    assert lines[0]["loss_expert"] == pytest.approx(0.5 * alone["loss"], rel=1e-5)
    token = config("opd_reward", tmp_path / "token", updates=1, **factors)
    line = read_metrics(train(token), "train")[0]
    opd = read_metrics(train(config("opd", tmp_path / "opd", updates=1, seed=1)), "train")[0]
    assert line["loss_expert"] == pytest.approx(0.5 * opd["loss"], rel=1e-4)
    assert line["weight_reward"] == pytest.approx(lines[0]["weight_reward"])


def test_opd_with_gamma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a gamma that is read from the configuration and not used: weights must accumulate to the left."""
    seen: dict[float, list[torch.Tensor]] = {}
    update = train_module.update
    for gamma in (0.0, 0.5, 1.0):

        def watched(
            student: Any, optimizer: Any, labelled: Any, c: TrainConfig, clock: Any, gamma: float = gamma
        ) -> Any:
            seen[gamma] = [x.weight for x in labelled]
            return update(student, optimizer, labelled, c, clock)

        monkeypatch.setattr(train_module, "update", watched)
        train(config("opd", tmp_path / str(gamma), updates=1, gamma=gamma))
    for now, half, whole in zip(seen[0.0], seen[0.5], seen[1.0]):
        n = len(now)
        torch.testing.assert_close(whole, now.flip(0).cumsum(0).flip(0), atol=1e-3, rtol=1e-5)
        by_hand = [sum(0.5 ** (s - t) * float(now[s]) for s in range(t, n)) for t in range(n)]
        torch.testing.assert_close(half, torch.tensor(by_hand), atol=1e-3, rtol=1e-5)
