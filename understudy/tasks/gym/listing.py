"""What reasoning-gym offers: its data sets, and the options and levels of one of them, with problems as examples."""

from __future__ import annotations

from typing import Any

from understudy.errors import UserError
from understudy.tasks.gym.config import GymConfig
from understudy.tasks.gym.task import GymTask, processes


def data_sets() -> dict[str, list[str]]:
    """Category -> names."""
    (answer,) = processes().run([{"op": "list"}])
    return dict(answer)


def facts(name: str, examples: int = 2) -> dict[str, Any]:
    """Options of a data set {name: [kind, default]}, its number of levels, and problems with their answers."""
    (answer,) = processes().run([{"op": "describe", "name": name}])
    if "refused" in answer:
        raise UserError(*answer["refused"])
    task = GymTask(GymConfig(dataset=name))
    shown = [(p.text.removeprefix("Question: "), p.data["answer"]) for p in task.prompts("train", examples, 0)]
    asked = f"\n{task.config.asked}\nAnswer:"
    return answer | {"examples": [[text.removesuffix(asked), gold] for text, gold in shown]}
