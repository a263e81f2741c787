"""rewards.py of an export: the task's verifier as the reward function of every target that takes one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from understudy.export.limits import VERSIONS

_JUDGE = '''import json
from pathlib import Path

from understudy.tasks import load_task
from understudy.types import Prompt

TASK = load_task({task}.replace("HERE/", f"{{Path(__file__).resolve().parent}}/"))
END_IDS = {ends}  # tokens that end a completion


def judge(problem, text, ended):
    """Reward of one completion. problem: the column `understudy` of its row."""
    fields = json.loads(problem)
    prompt = Prompt(fields["key"], fields["text"], fields["data"], opened=fields.get("opened", ""))
    return float(TASK.verify(prompt, text, ended))
'''
_ADAPTERS = {
    "trl": '''

def reward(completions, understudy, completion_ids=None, **_):
    """TRL's reward_funcs: one reward per completion (text, or turns)."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    ids = completion_ids or [END_IDS] * len(texts)
    return [judge(p, t, bool(i) and i[-1] in END_IDS) for p, t, i in zip(understudy, texts, ids)]
''',
    "verl": '''

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    """verl's custom reward function; it is not told whether the completion ended."""
    return judge(ground_truth, solution_str, True)
''',
    "ms-swift": '''

from swift.rewards import ORM, orms  # noqa: E402


class Understudy(ORM):
    """ms-swift's reward function; it is not told whether the completion ended."""

    def __call__(self, completions, understudy, **_):
        return [judge(p, c if isinstance(c, str) else c[-1]["content"], True) for p, c in zip(understudy, completions)]


orms["understudy"] = Understudy
''',
    "tinker": "",
}


def bundled(task: str) -> tuple[str, dict[str, Path]]:
    """The task's text with HERE/task/NAME in the place of every file that it names, and those files by that name.

    HERE is the export's folder. A folder that it names stays where it is.
    """
    files: dict[str, Path] = {}

    def moved(text: str) -> str:
        sign = "@" if text.startswith("@") else ""
        path, colon, rest = text[len(sign) :].partition(":") if ".py:" in text else (text[len(sign) :], "", "")
        if not os.path.isfile(os.path.expanduser(path)):
            return text
        found = Path(path).expanduser()
        name = found.name
        while name in files and files[name] != found:
            name = f"other-{name}"
        files[name] = found
        return f"{sign}HERE/task/{name}{colon}{rest}"

    first, comma, rest = task.partition(",") if task.partition(":")[0].strip().endswith(".py") else ("", "", task)
    head, colon, options = rest.partition(":") if not first else ("", "", rest)
    items = (item.partition("=") for item in options.split(",")) if options else ()
    changed = ",".join(name + equals + (moved(value) if equals else value) for name, equals, value in items)
    return (moved(first) + comma if first else head + colon) + changed, files


def text_of(target: str, task: str, end_ids: Sequence[int]) -> str:
    """The file. It needs this package where it runs."""
    lines = f"# Rewards of task {json.dumps(task, ensure_ascii=False)}; needs `understudy` installed where it runs.\n"
    lines += f"# Written by `understudy export` for {VERSIONS[target]}.\n"
    return lines + _JUDGE.format(task=json.dumps(task), ends=list(end_ids)) + _ADAPTERS[target]


CONSTANT = """# verl asks for a reward of every completion; this training does not use it (use_task_rewards: false).


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    return 0.0
"""
"""verl's file where the task has no verifier."""
