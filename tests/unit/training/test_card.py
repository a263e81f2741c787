"""The model card repeats the records of the run, and names in it stay text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import config
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.config import resolve, to_dict
from understudy.runs.read import read_final, read_ledger
from understudy.training.card import card, cell, escaped, find_diagnosis, shown, span
from understudy.training.train import train

DIAGNOSIS: dict[str, Any] = {
    "setting": {"student": "scratch", "expert": "solver", "task": "coin"},
    "verdict": {"answer": "go online", "probabilities": {"go online": 0.75}, "reasons": ["<b>recovery</b>"]},
}


def head_of(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    loaded = yaml.safe_load(head)
    assert isinstance(loaded, dict)
    return loaded


def test_a_trained_model_carries_its_card(tmp_path: Path) -> None:
    run = train(config("sft", tmp_path / "run", updates=3))
    text = (run / "final" / "README.md").read_text()
    assert head_of(text)["library_name"] == "transformers"
    assert head_of(text)["tags"] == ["understudy", "distillation", "sft"]
    assert f"| student tokens trained | {read_ledger(run)['student_tokens_trained']:,} |" in text
    assert "| `updates` | `3` |" in text
    final = read_final(run)
    assert final is not None
    greedy = final["splits"]["test"]["greedy"]
    assert f"| {sum(greedy) / len(greedy):.3f} | 2 x 1 |" in text
    assert str(tmp_path) not in text, "a folder of this machine is published"
    assert "Verdict" not in text
    AutoModelForCausalLM.from_pretrained(run / "final")
    AutoTokenizer.from_pretrained(run / "final")


@pytest.mark.parametrize(
    "evil", ["`--- \nbase_model: evil\n---`", "</code><script>x</script>", 'a"\n- "b', "x|y", "``a`", "# no"]
)
def test_names_stay_text(evil: str) -> None:
    """Catches a name that becomes YAML, a heading, a cell, or ends its code span."""
    fields = to_dict(resolve(config("sft", Path("x"), student=evil, task=evil))) | {"method": "sft"}
    diagnosis = DIAGNOSIS | {"verdict": {"answer": evil, "probabilities": {evil: 1.0}, "reasons": [evil]}}
    text = card(fields, {"device": evil}, {}, {"splits": {}}, diagnosis)
    assert set(head_of(text)) == {"library_name", "pipeline_tag", "tags"}
    assert text.count("\n---\n") == 1, "only the head's end"
    for line in text.splitlines():
        fences = [len(run) for run in re.findall(r"(?<!\\)`+", line.replace("\\`", ""))]
        if fences and not line.startswith("```"):
            assert fences.count(max(fences)) % 2 == 0, line
        if line.startswith("#"):
            assert not line.startswith("# no")
        if line.startswith("| ") and evil == "x|y" and ("`student`" in line or "`task`" in line):
            assert "`x\\|y`" in line
    reasons = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(reasons) == 1
    assert "<" not in reasons[0].replace("\\<", "")


def test_pieces() -> None:
    assert span("a`b") == "``a`b``"
    assert span("`a") == "`` `a ``"
    assert span("a\nb") == "`a b`"
    assert cell("a|b") == "`a\\|b`"
    assert escaped("*a* [b](c)") == r"\*a\* \[b\]\(c\)"
    assert (shown("/home/someone/models/x/"), shown("owner/name"), shown(3)) == ("x", "owner/name", "3")


def test_a_hub_base_is_named_in_the_head() -> None:
    fields = to_dict(resolve(config("sft", Path("x"), student="owner/base-1.5B")))
    assert head_of(card(fields, {}, {}, {"splits": {}}))["base_model"] == "owner/base-1.5B"
    assert "base_model" not in head_of(card(fields | {"student": "a b/c"}, {}, {}, {"splits": {}}))


def test_the_verdict_of_the_same_question(tmp_path: Path) -> None:
    run = tmp_path / "sft-0"
    run.mkdir()
    fields = {"student": "scratch", "expert": "solver", "task": "coin"}
    assert find_diagnosis(run, fields) is None
    other = tmp_path / "diagnose-1"
    other.mkdir()
    for text in ("{", json.dumps({"setting": fields}), json.dumps(DIAGNOSIS | {"setting": fields | {"task": "x"}})):
        (other / "diagnosis.json").write_text(text)
        assert find_diagnosis(run, fields) is None
    (other / "diagnosis.json").write_text(json.dumps(DIAGNOSIS))
    assert find_diagnosis(run, fields) == DIAGNOSIS
    text = card(to_dict(resolve(config("sft", Path("x")))), {}, {}, {"splits": {}}, DIAGNOSIS)
    assert "**go online**" in text
    assert r"- \<b\>recovery" in text
