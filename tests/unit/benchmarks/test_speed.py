"""The parts of the benchmark that need no clock: ratios, plan, resume, page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import models, plan, speed, turns
from benchmarks.page import latest, page


def record(section: str, name: str, result: dict[str, Any], revision: str = "a") -> dict[str, Any]:
    about = {"processor": "P", "cores": 2, "threads": 1, "versions": {"torch": "2"}, "gflops": 100.0}
    return {"section": section, "name": name, "revision": revision, "repeats": 3, "machine": about, "result": result}


ROLLOUTS = {
    "seconds": {"understudy": [1.0, 2.0], "generate": [2.0, 2.0]},
    "tokens": {"understudy": [100, 100], "generate": [50, 100]}, "cache": "static",
}  # fmt: skip


def test_a_ratio_is_of_seconds_per_token_within_a_repeat():
    """Catches a ratio of medians, and one that forgets that contenders wrote different numbers of tokens."""
    assert turns.ratios(ROLLOUTS, "generate") == [4.0, 1.0]
    assert turns.spread([4.0, 1.0, 2.0]) == "2.00 (1.00 to 4.00)"


def test_contenders_take_turns_and_the_order_turns_around():
    """Catches contenders that are measured one after the other, and counted warm-up rounds."""
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    out = turns.in_turns(contenders, repeats=2, warm=1)
    assert "".join(calls) == "baabba"
    assert out["tokens"] == {"a": [3, 6], "b": [4, 5]}
    assert all(len(s) == 2 for s in out["seconds"].values())


@pytest.mark.parametrize(("mean", "vocabulary"), [(2, 10), (32, 262), (12, 151_936)])
def test_the_end_bias_makes_the_wanted_mean_length(mean: float, vocabulary: int):
    """exp(b) / (exp(b) + V - 1) = 1 / mean for equal other logits."""
    weight = 2.718281828459045 ** models.end_bias(mean, vocabulary)
    assert weight / (weight + vocabulary - 1) == pytest.approx(1 / mean)
    assert models.end_bias(0, vocabulary) == models.NEVER


def test_a_prompt_is_as_many_tokens_as_letters():
    from understudy.tasks.tokenizer import shared_tokenizer

    assert len(shared_tokenizer()(models.text(7, 256))["input_ids"]) == 256
    assert models.text(7, 16) == models.text(7, 16) != models.text(8, 16)


def test_the_plan_has_unique_names_and_fits_its_time():
    """Catches two items of one name (the second would be taken as done), and a default run beyond 20 minutes."""
    everything = plan.items()
    names = [(i.section, i.name) for i in everything]
    assert len(set(names)) == len(names)
    assert {i.section for i in everything} == set(plan.SECTIONS)
    assert sum(i.seconds(3) for i in everything) <= 20 * 60
    assert {i.section for i in plan.items(quick=True)} <= set(plan.SECTIONS)
    assert {i.section for i in plan.items(["opd"])} == {"opd"}


def test_a_measurement_is_kept_only_for_its_revision_and_settings(tmp_path: Path):
    """Catches a resume that mixes numbers of two versions of the source, and a cut last line that stops it."""
    wanted = plan.items(["opd"])
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(record("opd", wanted[0].name, {})) + "\n" + '{"section": "op')
    kept = speed.read(file)
    assert speed.open_items(wanted, kept, {"revision": "a", "repeats": 3}) == wanted[1:]
    assert speed.open_items(wanted, kept, {"revision": "b", "repeats": 3}) == wanted
    assert speed.open_items(wanted, kept, {"revision": "a", "repeats": 5}) == wanted
    assert speed.read(tmp_path / "none") == []


def test_each_memory_item_has_a_process_of_its_own():
    def sizes(sections: Sequence[str]) -> list[int]:
        return [len(g) for g in speed.groups(plan.items(sections))]

    assert set(sizes(["memory"])) == {1}
    assert sizes(["opd", "others"]) == [4, 2]


def test_the_page_shows_the_last_record_of_each_item():
    """Catches old numbers beside new ones, and a section that cannot be written."""
    two = {"seconds": {"1": [1.0], "2": [2.0]}}
    update = {"seconds": {"understudy": [1.0], "GKDTrainer": [1.6]}, "tokens": {"understudy": [8], "GKDTrainer": [8]}}
    parts = {"sample": [1.0], "score": [1.0], "score and learn": [3.0]}
    sizes = {"weights": 10**6, "optimizer": 10**6, "loaded": 10**8, "peak": 10**8 + 1500000}
    records = [
        record("rollouts", "1M; full; 8 x 64", ROLLOUTS | {"cache": "old"}),
        record("rollouts", "1M; full; 8 x 64", ROLLOUTS),
        record("opd", "full; 2 x 4", update | {"flops": 50e9}),
        record("others", "sft; 2 x 4", update),
        record("memory", "opd; 1024; 16; default", sizes),
        record("shares", "small", {"seconds": parts, "flops": {"sample": 50e9, "score": 10e9, "learn": 100e9}}),
        record("diagnosis", "kept rows", {"cost_share": [0.05, 0.1]}),
        record("scaling", "fsdp", two, "b"),
    ]
    assert [len(part) for part in latest(records).values()] == [1] * len(plan.SECTIONS)
    text = page(records)
    assert "| 1M | full | 8 x 64 | 67 | 2.50 (1.00 to 4.00) |" in text
    assert "static" in text
    assert "old" not in text
    assert "50% understudy" in text
    assert "| small | learning | 2.000 | 100.0 | 50% (50% to 50%) |" in text
    assert "1.50 |" in text
    assert "50% (50% to 50%)" in text.partition("Weak scaling")[2]
    assert "Revisions measured: a, b" in text


def test_a_wrong_section_is_refused_by_name(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        speed.main(["--only", "rolouts"])
    assert "no section 'rolouts'" in capsys.readouterr().err
