"""One expert or several as one text, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from understudy.config import TrainConfig, load, resolve
from understudy.errors import UserError
from understudy.specs import build, experts_in, names_several, option, parse_several, several_text

ONE = [
    "", "solver", "solver:p_right=0.995,smoothing=0.01", "runs/a=b/final", "./x=1 y=2", "http://127.0.0.1:8000/v1",
    "server:url=http://h/v1,model=a b=c", "self:context=gold,frozen=false", "OWNER/NAME", "my models/a", "a =b",
]  # fmt: skip


@pytest.mark.parametrize("text", ONE)
def test_one_expert_stays_one(text: str) -> None:
    assert not names_several(text)
    assert experts_in(text) == {"": text}
    assert several_text([text] if text else []) == text


SEVERAL = {
    "a=PATH b=http://h:1/v1": {"a": "PATH", "b": "http://h:1/v1"},
    "en=my models/x  zh=server:url=http://h/v1,model=q": {"en": "my models/x", "zh": "server:url=http://h/v1,model=q"},
    "1=solver:p_right=1\n2.b=labeller 3-c=self:context=gold": {
        "1": "solver:p_right=1", "2.b": "labeller", "3-c": "self:context=gold",
    },
}  # fmt: skip


@pytest.mark.parametrize("text", SEVERAL)
def test_several_there_and_back(text: str) -> None:
    assert names_several(text)
    assert parse_several(text) == experts_in(text) == SEVERAL[text]
    assert list(parse_several(text)) == list(SEVERAL[text]), "in their order"
    joined = several_text(SEVERAL[text])
    assert parse_several(joined) == SEVERAL[text]
    assert several_text([f"{name}={spec}" for name, spec in SEVERAL[text].items()]) == joined
    assert several_text([text]) == text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a=x", "b=y", "a=z"], "a: is the name of two"),
        (["a=x", "b="], "b=: names no expert"),
        (["a=x", "https://me:secret@host/v1"], "word 2 of 2 has no name"),
        (["solver", "b=y"], "word 1 of 2 has no name"),
        (["a=nowhere"], "a=: names one expert: leave the name out"),
        ({"a": "x"}, "there is one expert only"),
        ({"a": "x", "b c": "y"}, "b c: a name of an expert has letters"),
        ({"a": "x", "b": "y c=z"}, ".* no blank before NAME="),
        ({"a": "x", "b": 3}, "b: must be the text of an expert, not a int"),
        ({"a": "x", "b": ""}, "b=: names no expert"),
    ],
)
def test_mistakes(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"^expert: {words}") as error:
        experts_in(several_text(given))
    assert "secret" not in str(error.value)


def test_a_folder_may_look_like_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1e-3").mkdir()
    assert experts_in("lr=1e-3") == {"": "lr=1e-3"}


@dataclass(frozen=True)
class Options:
    expert: str = option("", several=True)
    other: str = ""


def test_fields_take_texts_lists_and_mappings() -> None:
    text = "a=x b=y"
    for given in (text, ["a=x", "b=y"], ("a=x", "b=y"), {"a": "x", "b": "y"}):
        assert build(Options, {"expert": given}, "") == Options(text)
    assert build(Options, {"expert": ["solver"]}, "") == Options("solver")
    with pytest.raises(UserError, match=r"other: .* must be text"):
        build(Options, {"other": ["a=x", "b=y"]}, "")


def test_a_file_may_name_several(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("student: S\nexpert: {a: PATH, b: 'http://h:1/v1'}\n")
    config = load(tmp_path / "c.yaml")
    assert config.expert == "a=PATH b=http://h:1/v1"
    with pytest.raises(UserError, match=r"expert: there are 2 experts \(a, b\)"):
        resolve(config)


def test_no_secret_of_several_is_repeated() -> None:
    with pytest.raises(UserError) as error:
        resolve(TrainConfig(student="S", expert="a=x b=http://me:secret@host/v1"))
    assert "secret" not in str(error.value)
