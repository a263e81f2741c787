"""Every data set of reasoning-gym that is installed: it can be drawn from, and its scorer accepts its own answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("reasoning_gym")

from understudy.tasks.gym.task import OWN, processes

SLOW = {
    "knight_swap": "seconds per problem", "futoshiki": "half a second", "zebra_puzzles": "half a second",
    "intermediate_integration": "half a second", "puzzle24": "a third of a second", "sudoku": "a quarter of a second",
    "group_anagrams": "reads its words for a second", "arc_agi": "reads its problems for a second",
    "figlet_font": "reads its fonts for a second", "word_ladder": "reads its words for a second",
}  # fmt: skip
ONLY_SCORES = {"boxnet", "rush_hour"}  # they give no answer
LENIENT = {"game_of_life_halting"}  # takes all but True for False


def setup(name: str) -> str:
    wanted = {
        "name": name, "options": {}, "ood": {}, "level": None, "ood_level": None, "seed": 0, "test_share": 0.01,
        "own": OWN,
    }  # fmt: skip
    return json.dumps(wanted)


def test_every_data_set_accepts_its_own_answers() -> None:
    """Catches a scorer that is called the wrong way round, an answer of another type, one that a rule makes unfit."""
    pool = processes()
    killed = pool.killed
    listed = pool.run([{"op": "list"}])[0]
    names = [name for group in listed.values() for name in group if name not in SLOW]
    assert len(names) >= 90
    common: dict[str, Any] = {"kind": "train", "held_out": False}
    draws = [(name, {"op": "draw", "setup": setup(name), "name": str(i)} | common) for name in names for i in range(2)]
    drawn = pool.run([request for _, request in draws])
    bad = {name: d for (name, _), d in zip(draws, drawn) if not d or "refused" in d}
    assert not bad
    assert {name for (name, _), d in zip(draws, drawn) if d["answer"] is None} == ONLY_SCORES
    asked = [
        (name, {"op": "score", "setup": setup(name), "kind": "train", "seed": d["seed"], "answer": answer}, answer)
        for (name, _), d in zip(draws, drawn) for answer in (d["answer"], "none of these") if d["answer"] is not None
    ]  # fmt: skip
    scores = pool.run([request for _, request, _ in asked])
    right = {name: s for (name, _, a), s in zip(asked, scores) if a != "none of these" and s["score"] < 1}
    wrong = {name: s for (name, _, a), s in zip(asked, scores) if a == "none of these" and s["score"] >= 1}
    assert not right
    assert not wrong.keys() - LENIENT
    assert pool.killed == killed
