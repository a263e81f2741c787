"""understudy theory: values in full precision, claims with options, one-line mistakes, and the page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from understudy.cli.main import main
from understudy.theory.claims import registry
from understudy.theory.claims.claim import Result, at_most
from understudy.theory.claims.registry import CLAIMS, find
from understudy.theory.values import QUANTITIES

ROOT = Path(__file__).parents[3]


def _value(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["theory", "value", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_documented_value(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["regret", "--family", "F", "--l", "8", "--eps", ".01", "--kappa", ".1", "--n", "64", "--info", "OFF-S"]
    record = _value(capsys, *words)
    assert record["value"] == pytest.approx(0.469222527077, abs=1e-12)
    assert record["parameters"]["students"] == "D"
    assert main(["theory", "value", *words]) == 0
    assert float(capsys.readouterr().out) == record["value"]  # full precision without --json too


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("regret --info ON-G --n 64", 0.000097160),
        ("regret --info on-g-group --kappa .1 --n 64", 0.015978237),
        ("regret --info ON-G-raw --kappa .1 --n 64", 0.320381753),
        ("regret --family R-stoch --g .25 --n 64", 0.036955444),
        ("regret --family rate --l 16 --n 4096", 0.067352516),
        ("regret --family truncated --n 4096", 0.5),
        ("regret --family unvisited --n 64", 0.019962650),
        ("regret --family M-token-indep --H 4 --n 64", 0.915671184),
        ("regret --family M-mode-shared --l 4 --eps .05 --kappa .3 --H 3 --n 64", 0.329681902),
        ("bound --name rate-lower --k 65536 --n 4096", 0.067344296),
        ("bound --name gaussian-lower --M 6 --n 100", 0.415821359),
        ("samples --eps .001", 18419.529),
        ("kl --a .5 --b .977249868051820792", 1.209951441),
        ("vote-error --m 1 --kappa .1", 0.1),
        ("misspecification --example F --what L --student 1", 6.907755279),
        ("misspecification --example F --what guarantee", 0.738460485),
        ("misspecification --example F --eps 1e-6 --kappa .01 --what guarantee", 0.972915296),
        ("misspecification --example F --what tv", 0.991),
    ],
)
def test_values_that_the_docs_do_not_show(capsys: pytest.CaptureFixture[str], words: str, expected: float) -> None:
    assert _value(capsys, *words.split())["value"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_an_infinite_value_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    record = _value(capsys, *["misspecification", "--example", "F", "--what", "F"])
    assert record["value"] is None
    assert record["infinite"] == "+"


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_has_help_and_a_default(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert _value(capsys, name)["quantity"] == name
    with pytest.raises(SystemExit) as stop:
        main(["theory", "value", name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(QUANTITIES[name].options):
        assert f"--{field.name}" in shown


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("value regrt", "quantity"),
        ("value regret --family X", "family"),
        ("value regret --info X", "info"),
        ("value regret --family R-stoch --eps .1", "eps"),
        ("value regret --family R-stoch --info ON-G-raw", "info"),
        ("value regret --n -1", "n"),
        ("value regret --n x", "n"),
        ("value regret --eps 0", "eps"),
        ("value bound --name x", "name"),
        ("value kl-inverse --value 2", "value"),
        ("value tilt --d1 -1", "d1, d0"),
        ("value figure3 --cls C", "cls"),
        ("value misspecification --what x", "what"),
        ("value samples --regret .6", "regret"),
        ("botleneck", "claim"),
        ("trap --n 3", "n"),
        ("--n 3", "n"),
        ("bottleneck --eps 2 --no-page", "eps"),
        ("falsify --kind x", "kind"),
        ("falsify --delta 0", "delta"),
        ("falsify --count 0", "count"),
        ("bottleneck --frobnicate", "command line"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: str, field: str) -> None:
    assert main(["theory", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {field}: ")
    assert error.count("\n") == 1


def test_help_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["theory", "--help"]) == 0
    assert "understudy theory value QUANTITY" in capsys.readouterr().out
    assert main(["theory", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(claim.name in shown for claim in CLAIMS)
    assert main(["theory", "value"]) == 0


def test_named_claims_write_rows_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["theory", "bottleneck", "trap", "--seed", "2", "--out", str(tmp_path / "o")]) == 0
    shown = capsys.readouterr().out
    assert "2 claims" in shown
    assert "all hold" in shown
    record = json.loads((tmp_path / "o" / "claims.json").read_text())
    assert [c["name"] for c in record["claims"]] == ["bottleneck", "trap"]
    assert all(row["holds"] for c in record["claims"] for row in c["rows"])
    assert (tmp_path / "o" / "theory.html").stat().st_size > 20_000


def test_an_unwritable_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["theory", "best-of-two", "--out", str(tmp_path / "file" / "below")]) == 2
    assert capsys.readouterr().err.startswith("error: out: ")


def test_a_claim_that_fails_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = dataclasses.replace(find("trap"), run=lambda o: Result([at_most("a false bound", 1.0, 2.0)]))
    monkeypatch.setitem(registry.BY_NAME, "trap", broken)
    assert main(["theory", "trap", "--out", str(tmp_path), "--no-page"]) == 1
    assert "DO NOT HOLD" in capsys.readouterr().out


DOCS = ROOT / "docs" / "theory.md"


def test_docs_numbers_are_what_the_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    shown = [(line[2:], lines[i + 1]) for i, line in enumerate(lines) if line.startswith("$ understudy theory value")]
    assert len(shown) > 15
    for command, printed in shown:
        assert main(command.split()[1:]) == 0
        assert float(capsys.readouterr().out) == pytest.approx(float(printed), rel=1e-12), command


def test_the_search_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worst = tmp_path / "worst.json"
    words = ["falsify", "--count", "200", "--runs", "20", "--n", "16", "--json", "--worst", str(worst)]
    assert main(["theory", *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["refuted"] is False
    assert record["tally"]["instances"] == 200
    assert {f["code"] for f in record["findings"]} == {"F1", "F2", "F3", "F4"}
    assert main(["theory", "falsify", "--instance", str(worst), "--runs", "20"]) == 0  # an instance file like any other
