"""env:NAME against modules with the interface of verifiers 0.1, in its two forms; and the package if installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.tasks import load_task, make_task

STUB = """
class Rubric:
    def _get_reward_weights(self): return [1.0, 0.25]
    {score}

class {base}:
    pass

class Mine({base}):
    def __init__(self, n, has_eval): self.n, self.has_eval, self.rubric = n, has_eval, Rubric()
    def _made(self, start):
        return [{{"prompt": [{{"role": "user", "content": f"{{i}}+1?"}}], "answer": str(i + 1), "info": {{"i": i}}}}
                for i in range(start, start + self.n)]
    def get_dataset(self): return self._made(0)
    def get_eval_dataset(self):
        if not self.has_eval: raise ValueError("none")
        return self._made(5)

def load_environment(n=20, has_eval=True): return Mine(n, has_eval)
"""
OLD = """async def score_rollout(self, prompt, completion, answer, state, task="", info=None, example_id=0, **kw):
        text = completion[-1]["content"]
        state["timing"]["total_ms"] += 1.0
        return {"reward": float(text == answer) + 0.25 * float(state["info"]["i"] >= 0 and text != "")}"""
NEW = """async def score_rollout(self, state):
        text = state["completion"][-1]["content"]
        if text == "boom": raise RuntimeError("no")
        if text == "much": state["reward"] = 7.0; return
        state["reward"] = float(text == state["answer"]) + 0.25 * float(text != "")"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, score, base in (
        ("old_env", OLD, "SingleTurnEnv"),
        ("new_env", NEW, "SingleTurnEnv"),
        ("tools_env", NEW, "ToolEnv"),
    ):
        (tmp_path / f"{name}.py").write_text(STUB.format(score=score, base=base))
    (tmp_path / "bare_env.py").write_text("x = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["old-env", "new_env"])
def test_prompts_splits_and_scaled_rewards(modules: Path, name: str) -> None:
    """Catches the old call of a new rubric, rewards of 1.25, and train problems that are also evaluated."""
    task = load_task(f"env:{name},max_new_tokens=8")
    assert (task.size("train"), task.size("test")) == (5, 20)
    train, test = ({p.text for p in task.prompts(s, task.size(s) or 0, 0)} for s in ("train", "test"))
    assert not train & test
    p = task.prompts("test", 1, 0)[0]
    assert p.messages == (("user", p.text),)
    rewards = task.verify_many([(p, text, True) for text in (str(p.data["answer"]), "wrong", "")])
    assert rewards == pytest.approx([1.0, 0.2, 0.0])
    assert "scaled from 0..1.25 to 0..1" in task.about()
    shared = load_task(f"env:{name},has_eval=false,n=40")
    assert (shared.size("train") or 0) + (shared.size("test") or 0) == 40
    assert shared.digest() != task.digest()


def test_bad_input(modules: Path) -> None:
    cases = {
        "env": "names no environment", "env:no_such_env": "install the package of the environment",
        "env:tools_env": "takes several turns or tools", "env:bare_env": "has no load_environment",
        "env:new_env,m=3": "unexpected keyword argument 'm'", "env:new_env,workers=0": "must lie in",
    }  # fmt: skip
    for text, what in cases.items():
        with pytest.raises(UserError, match=what) as error:
            make_task(text)
        assert "\n" not in str(error.value)
    task = load_task("env:new_env")
    p = task.prompts("train", 1, 0)[0]
    for text, what in (("boom", "its rubric raised RuntimeError: no, on prompt"), ("much", "gave 7, outside 0..1.25")):
        with pytest.raises(UserError, match=what):
            task.verify(p, text, True)


def test_the_package_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("verifiers.envs.singleturn_env")
    pytest.importorskip("datasets")
    (tmp_path / "real_env.py").write_text(
        "import verifiers as vf\nfrom datasets import Dataset\n"
        "def right(completion, answer, **kwargs): return float(completion[-1]['content'] == answer)\n"
        "def load_environment():\n"
        "    rows = [{'question': f'{i}+1?', 'answer': str(i + 1)} for i in range(40)]\n"
        "    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[right]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    task = load_task("env:real_env")
    p = task.prompts("test", 1, 0)[0]
    assert task.verify_many([(p, text, True) for text in (str(p.data["answer"]), "no")]) == [1.0, 0.0]
