"""The page of a comparison: self-contained, escaped, deterministic, and built from runs in any state."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import EXPERTS, HOSTILE, comparison

from understudy import report
from understudy.errors import UserError
from understudy.report.figures.svg import spread

pytestmark = pytest.mark.xdist_group("page of a comparison")  # one worker draws `full`

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []  # (innermost tag, text)
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag, (self.open[-3:], tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    @property
    def words(self) -> str:
        return " ".join(" ".join(data for tag, data in self.text if tag != "style").split())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on 3 seeds x 4 experts x (sft, opd) and one sft with 5 times the budget; hostile samples."""
    root = comparison(tmp_path_factory.mktemp("full") / "comparison", hostile=True)
    return report.build([root])


@pytest.fixture(scope="module")
def page(full: Path) -> Page:
    return Page(full.read_text(encoding="utf-8"))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


# --- the page ------------------------------------------------------------------------


def test_page_is_self_contained(full: Path, page: Page) -> None:
    assert full.name == "report.html"
    assert full.stat().st_size < 3_000_000
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "image"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            if name in attributes:
                assert (attributes[name] or "").startswith(("#", "data:,")), (tag, attributes)
    text = full.read_text()
    assert "@import" not in text
    assert "@font-face" not in text
    assert re.findall(r"url\((?!#)[^)]*\)", text) == []
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)  # name spaces of SVG load nothing


def test_every_section_is_there(page: Page) -> None:
    for words in (
        "Who the experts are", "Accuracy while training", "Sampled accuracy against updates",
        "against expert tokens", "against seconds", "Final accuracy", "Paired differences",
        "How far the student stays from the expert", "kl(expert, student)", "kl(student, expert)", "Lengths",
        "Keywords", "Completions side by side", "What it cost", "Flags", "Honest limits", "How to reproduce",
        "understudy demo --seeds 3", "built into the expert", "out of reach", "within reach", "SFT ×5",
        "samples_per_prompt differs between grpo (8) and the others (1)", "torch", "0123456789ab",
    ):  # fmt: skip
        assert words in page.words, words


def test_ids_are_unique_and_references_resolve(full: Path, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", full.read_text())) <= set(ids)


def test_figures_have_words(page: Page) -> None:
    figures = [a for tag, a in page.tags if tag == "svg" and "x" not in a]  # one inside another is a part of it
    assert len(figures) > 25
    for attributes in figures:
        assert attributes.get("role") == "img"
        assert len(attributes.get("aria-label") or "") > 20


def test_same_runs_same_bytes(full: Path) -> None:
    before = full.read_bytes()
    assert report.build([full.parent]).read_bytes() == before
    assert b"matplotlib" not in before.lower()  # neither its date nor its name changes the bytes


def test_model_text_is_text(full: Path, page: Page) -> None:
    text = full.read_bytes()
    for raw in (b"<script", b"\x1b", b"\x00", "\u202e".encode(), b"<b>bold"):
        assert raw not in text
    shown = "".join(data for tag, data in page.text if tag == "pre")
    assert "<script>alert(1)</script></pre><b>bold</b> ⟨ESC⟩[31mred⟨ESC⟩[0m ⟨NUL⟩ ⟨U+202E⟩gnp.exe" in shown
    assert "&amp; $x^2$" in shown


def test_labels_and_settings_are_text_too(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> $\\frac{1}{0}$ " + HOSTILE
    root = comparison(tmp_path / "c", seeds=1, experts={name: EXPERTS["R"] | {"mechanism": HOSTILE}})
    change(root / "compare.json", title=HOSTILE, flags=[HOSTILE, {"k": HOSTILE}], command=["x", HOSTILE])
    change(root / "compare.json", settings={HOSTILE: {HOSTILE: HOSTILE}}, axis=HOSTILE)
    for path in root.glob("runs/*/provenance.json"):
        provenance_of = {"provenance": {HOSTILE: [HOSTILE]}}
        change(path, device=HOSTILE, versions={HOSTILE: HOSTILE}, expert=provenance_of)
    path = report.build([root])
    parsed = Page(path.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in parsed.tags} & {"script", "img"}
    assert not [1 for _, attributes in parsed.tags if any(key.startswith("on") for key in attributes)]


def test_leading_newline_of_a_completion_is_kept(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    for path in root.glob("runs/*/samples.jsonl"):
        path.write_text(path.read_text().replace('"completion": "', '"completion": "\\n'))
    cell = re.findall(r"<pre dir=\"ltr\">\n(.*?)</pre>", report.build([root]).read_text(), flags=re.S)[0]
    assert cell.startswith("\n")  # a browser drops only the first newline after <pre>


def test_no_torch_no_transformers(full: Path) -> None:
    code = (
        "import sys, pathlib; from understudy import report; report.build([pathlib.Path(sys.argv[1])]);"
        "loaded = {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, str(full.parent)], check=True, cwd=Path(__file__).parents[4])


# --- other inputs --------------------------------------------------------------------


def test_a_single_run(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"solver": EXPERTS["solver"]})
    path = report.build([root / "runs/solver-opd-x1-seed0"], tmp_path / "pages" / "one.html")
    assert path == tmp_path / "pages" / "one.html"
    words = Page(path.read_text()).words
    assert "Training run solver-opd-x1-seed0" in words
    assert "with solver reached" in words
    assert "The training loop" in words
    assert "Entropy of the student" in path.read_text()
    assert "Entropy of the expert" in path.read_text()
    assert "minus this" not in words


def test_several_runs_without_a_comparison(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=2, experts={"solver": EXPERTS["solver"]})
    runs = [root / f"runs/solver-{m}-x1-seed{s}" for m in ("sft", "opd") for s in (0, 1)]
    change(runs[0] / "config.json", lr=3e-4)
    loaded = report.load(runs)
    assert report.finding(loaded)[0].startswith("OPD beat SFT with solver")
    assert any("differ in lr: 0.0003 (solver-sft-x1-seed0)" in flag for flag in loaded.flags)
    assert report.build(runs, tmp_path) == tmp_path / "report.html"


def test_two_runs_of_one_method_stay_apart(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"solver": EXPERTS["solver"]})
    loaded = report.load([root / "runs/solver-sft-x1-seed0", root / "runs/solver-sft-x5-seed0"])
    assert len(loaded.methods) == 2
    assert report.finding(loaded)[0].startswith("No online and offline method")
    report.build([root / "runs/solver-sft-x1-seed0", root / "runs/solver-sft-x5-seed0"], tmp_path / "x.html")


def test_unfinished_runs_are_named_and_left_out(tmp_path: Path) -> None:
    root = comparison(tmp_path, experts={"solver": EXPERTS["solver"]})
    dead = root / "runs/solver-opd-x1-seed2"
    (dead / "final.json").unlink()
    (dead / "status.json").write_text(json.dumps({"state": "stopped", "step": 100, "reason": "loss is NaN"}))
    loaded = report.load([root])
    row = next(r for r in report.table(loaded) if r.method == "OPD")
    assert row.sampled is not None
    assert row.sampled.n_seeds == 2
    words = Page(report.build([root]).read_text()).words
    assert "unfinished at step 100 (stopped: loss is NaN)" in words
    assert "different finished seeds" in words
    assert "2 of 3" in words


def test_nothing_finished_yet(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"solver": EXPERTS["solver"]})
    for path in root.glob("runs/*/final.json"):
        path.unlink()
    assert report.finding(report.load([root])) == ["No run has finished yet: there is nothing to compare."]
    assert report.table(report.load([root])) == []
    assert "Accuracy while training" in Page(report.build([root]).read_text()).words  # curves are there already


def test_half_written_and_damaged_lines_are_skipped_with_a_note(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"solver": EXPERTS["solver"]})
    metrics = root / "runs/solver-opd-x1-seed0/metrics.jsonl"
    whole = report.load([root])
    with open(metrics, "a") as file:
        file.write('{"kind": "eval", "step": 999, "split": "te')
    broken = report.load([root])
    assert any("half written and was skipped" in note for note in broken.notes)
    assert [len(e.run.evals) for e in broken.entries] == [len(e.run.evals) for e in whole.entries]
    text = metrics.read_text().split("\n")
    text[3] = text[3][:20]
    metrics.write_text("\n".join(text))
    assert any("line 4 is damaged and was skipped" in note for note in report.load([root]).notes)
    report.build([root])


@pytest.mark.parametrize("name", ["final.json", "provenance.json", "config.json", "ledger.json", "status.json"])
@pytest.mark.parametrize("content", ["{", "[1, 2]", "null", "{}"])
def test_damaged_files_never_stop_the_page(tmp_path: Path, name: str, content: str) -> None:
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    (root / "runs/R-opd-x1-seed0" / name).write_text(content)
    loaded = report.load([root])
    assert report.finding(loaded)
    assert report.table(loaded)
    if content == "{":  # the drawing takes most of the time
        Page(report.build([root]).read_text())


@pytest.mark.parametrize(
    "damage",
    [
        {"splits": {"test": {"keys": ["a"], "sampled": [[1, 0], [1]]}}},
        {"splits": {"test": {"keys": ["a"], "sampled": [["x"]]}}},
        {"splits": {"test": 3}},
        {"splits": {"test": {"keys": ["a"], "sampled": [[1]], "greedy": None}}, "expert": None},
        {"divergences": {"kl_expert_student": None, "kl_student_expert": {"per_prompt": [None, 1]}}},
    ],
)
def test_odd_final_numbers(tmp_path: Path, damage: dict[str, Any]) -> None:
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    change(root / "runs/R-opd-x1-seed0/final.json", **damage)
    Page(report.build([root]).read_text())


def test_no_greedy_no_divergence_no_samples_no_base(tmp_path: Path) -> None:
    """What a hub model on a GPU may leave out."""
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    change(root / "compare.json", base=None, settings=None, flags=None, command=None, title=None)
    for run in (root / "runs").iterdir():
        final = json.loads((run / "final.json").read_text())
        for split in final["splits"].values():
            split |= {"greedy": None, "lengths": None}
        (run / "final.json").write_text(json.dumps({"splits": final["splits"]}))
        (run / "samples.jsonl").unlink()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        nothing = {"kl_student_expert": None, "kl_expert_student": None, "keywords": {}, "greedy": None}
        lines = [line | (nothing if line["kind"] == "eval" else {"reward": None}) for line in lines]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = Page(report.build([root]).read_text()).words
    assert "Completions side by side" not in words
    assert "How far the student stays" not in words
    row = report.table(report.load([root]))[0]
    assert row.greedy is None
    assert row.gain is not None  # from the evaluation at step 0


def test_lines_written_again_after_a_resume_count_once(tmp_path: Path) -> None:
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    metrics = root / "runs/R-opd-x1-seed0/metrics.jsonl"
    before = [len(e.run.evals) for e in report.load([root]).entries]
    metrics.write_text(metrics.read_text() * 2)
    assert [len(e.run.evals) for e in report.load([root]).entries] == before


def test_outcomes_in_evaluation_lines_give_the_band(tmp_path: Path) -> None:
    """With "correct" in the lines the band is a bootstrap: none at all where every problem is solved."""
    root = comparison(tmp_path, seeds=1, experts={"R": EXPERTS["R"]})
    metrics = root / "runs/R-opd-x1-seed0/metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "eval":
            line |= {"correct": [1] * 128, "sampled": 1.0}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    from understudy.report.comparison.summary import summarise

    s = summarise(report.load([root]))
    curve, other = s.curve(s.arm("R", "opd")), s.curve(s.arm("R", "sft"))  # type: ignore[arg-type]
    assert curve is not None
    assert other is not None
    assert (curve.low == 1).all()
    assert (other.high - other.low).min() > 0.05


# --- bad paths -----------------------------------------------------------------------


def test_bad_paths_are_one_clear_line(tmp_path: Path) -> None:
    root = comparison(tmp_path / "c", seeds=1, experts={"R": EXPERTS["R"]})
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    for paths, words in (
        ([], "give a comparison directory"),
        ([tmp_path / "nowhere"], "does not exist"),
        ([tmp_path / "file"], "is not a directory"),
        ([tmp_path / "empty"], "no compare.json"),
        ([tmp_path / "model"], "no compare.json"),
        ([root / "runs"], "name the runs in it"),
        ([root, root / "runs/R-sft-x1-seed0"], "report on it alone"),
    ):
        with pytest.raises(UserError) as caught:
            report.build(paths)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    for text in ("{", "[]", "{}", '{"runs": 3}'):
        (root / "compare.json").write_text(text)
        with pytest.raises(UserError, match=r"compare\.json"):
            report.build([root])


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    root = comparison(tmp_path / "c", seeds=1, experts={"R": EXPERTS["R"]})
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="out"):
        report.build([root], tmp_path / "file" / "report.html")
    assert not list(root.glob(".tmp*"))


# --- labels that do not overlap ------------------------------------------------------


def test_spread_keeps_order_and_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        wanted = list(rng.uniform(0, 100, rng.integers(1, 7)))
        placed = spread(wanted, 12.0, 0.0, 100.0)
        order = np.argsort(wanted)
        assert (np.diff(np.array(placed)[order]) >= 12.0 - 1e-9).all()
        assert min(placed) >= -1e-9
        assert max(placed) <= 100 + 1e-9
    assert spread([10.0, 50.0], 12.0, 0.0, 100.0) == [10.0, 50.0]
    assert spread([50.0, 50.0], 12.0, 0.0, 100.0) == [44.0, 56.0]
