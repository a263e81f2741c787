"""tinker-cookbook: one script per phase, which builds the cookbook's own configuration, and the data as token ids."""

from __future__ import annotations

import json
import math
from typing import Any

from understudy.export.data import problem_of
from understudy.export.job import Job, Settings, Written, head, json_lines, scalar
from understudy.export.limits import is_offline, is_reward

RANK = 32  # of the adapter where the training has none and the user agrees to the difference


def write(job: Job) -> Written:
    """train.py and the data of a phase."""
    c = job.config
    settings = _settings(job)
    fields = "\n".join(f"        {i.name}={_python(i.value)},{f'  # {i.why}' if i.why else ''}" for i in settings.items)
    body = _SFT if is_offline(c) else _REWARD if is_reward(c) else _DISTILL
    replaced = {
        "HEAD": head(job, "A configuration of tinker-cookbook"), "DATA": json.dumps(job.data), "FIELDS": fields,
        "TEACHER": json.dumps(job.expert), "END_IDS": str(list(job.end_ids)), "BATCH": str(c.prompts_per_update),
        "ROWS": str(job.batch), "GROUP": str(c.samples_per_prompt), "LOG": json.dumps(job.output),
        "REDUCTION": json.dumps("mean" if c.reduction == "sequence_mean" else "none"),
        "START": json.dumps(job.student), "MODEL": json.dumps(job.base),
    }  # fmt: skip
    text = _COMMON + body if is_offline(c) else _COMMON + _ONLINE + body
    for name, value in replaced.items():
        text = text.replace(f"<{name}>", value)
    files = {f"{job.name}/train.py": text, job.data: json_lines(_rows(job))}
    return Written(files, f"python {job.name}/train.py", settings, tuple(_notes(job)))


def _python(value: Any) -> str:
    if isinstance(value, dict):
        return repr(value)
    return {True: "True", False: "False", None: "None"}[value] if isinstance(value, bool) or value is None else (
        scalar(value) if not isinstance(value, float) else repr(value)
    )  # fmt: skip


def _settings(job: Job) -> Settings:
    c, s = job.config, Settings()
    s.add("recipe_name", "understudy_export")
    s.add("log_path", job.output)
    s.pin("lora_rank", c.lora_rank or RANK, "tinker trains adapters; its default is 32")
    s.pin("learning_rate", c.lr, "the default is 1e-4")
    s.add("max_steps", c.updates, "updates")
    s.add("save_every", c.updates)
    s.add("eval_every", 0, "evaluate with understudy eval")
    if is_offline(c):
        s.pin("lr_schedule", c.schedule, "the default is linear to zero")
        s.add("adam_beta2", c.adam_beta2)
        return s
    s.add("max_tokens", job.room)
    s.add("temperature", 1.0, "another one is not on-policy")
    s.add("num_substeps", 1, "one optimizer step per update")
    if c.clip < math.inf:
        s.pin("loss_fn", "ppo", "with a clipped token ratio (the default importance_sampling does not clip)")
        edges = {"clip_low_threshold": 1 - c.clip, "clip_high_threshold": 1 + c.clip}
        s.pin("loss_fn_config", edges, "PPO range of that ratio")
    else:
        s.add("loss_fn", "importance_sampling", "token ratio without clipping")
    if is_reward(c):
        s.add("kl_penalty_coef", 0.0, "no KL from a reference model")
        s.add("remove_constant_reward_groups", False)
    else:
        s.add("kl_penalty_coef", 1.0, "advantage = log teacher - log student of the sampled token, no task reward")
        s.add("kl_discount_factor", float(c.gamma), "discount of the log-ratios to come; 0 = this token only")
    return s


def _notes(job: Job) -> list[str]:
    c, out = job.config, []
    if c.grad_clip:
        out.append("The cookbook's loops do not clip gradients.")
    if c.reduction == "token_mean":
        out.append(
            "tinker sums the loss over tokens instead of taking their mean: a constant, which Adam does not see."
        )
    out.append("Which layers get an adapter, its alpha and its precision are tinker's.")
    return out


def _rows(job: Job) -> list[dict[str, Any]]:
    rows = job.rows
    if rows.rollouts:
        return [{"prompt_ids": list(r.prompt.ids), "completion_ids": list(r.ids)} for r in rows.rollouts]
    if is_reward(job.config):
        return [{"prompt_ids": list(p.ids), "understudy": problem_of(p)} for p in rows.prompts]
    return [{"prompt_ids": list(p.ids)} for p in rows.prompts]


_COMMON = '''<HEAD>
import asyncio
import json
from pathlib import Path

import chz
import tinker

HERE = Path(__file__).resolve().parent
MODEL = <MODEL>  # one that tinker hosts
START = <START>  # the same, or the log folder of the phase before


def rows():
    with open(HERE.parent / <DATA>, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def start():
    """model_name, and load_checkpoint_path where a phase before has trained it."""
    log = HERE.parent / START / "checkpoints.jsonl"
    if not log.is_file():
        return {"model_name": MODEL}
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return {"model_name": MODEL, "load_checkpoint_path": last["state_path"]}
'''

_SFT = '''
import torch
from tinker_cookbook.supervised import train
from tinker_cookbook.supervised.common import datum_from_model_input_weights
from tinker_cookbook.supervised.types import SupervisedDataset, SupervisedDatasetBuilder


class Tokens(SupervisedDataset):
    """Batches in the order of the file; the prompt has weight 0."""

    def __init__(self, rows, size):
        self.rows, self.size = rows, size

    def __len__(self):
        return len(self.rows) // self.size

    def get_batch(self, index):
        out = []
        for row in self.rows[index * self.size : (index + 1) * self.size]:
            ids = row["prompt_ids"] + row["completion_ids"]
            weights = torch.tensor([0.0] * len(row["prompt_ids"]) + [1.0] * len(row["completion_ids"]))
            tokens = tinker.ModelInput.from_ints(ids)
            out.append(datum_from_model_input_weights(tokens, weights, reduction=<REDUCTION>))
        return out

    def set_epoch(self, seed=0):
        pass


@chz.chz
class Builder(SupervisedDatasetBuilder):
    def __call__(self):
        return Tokens(rows(), <ROWS>), None


def config():
    return train.Config(
        **start(),
        dataset_builder=Builder(),
<FIELDS>
    )


if __name__ == "__main__":
    asyncio.run(train.main(config()))
'''

_ONLINE = '''

from tinker_cookbook.rl.types import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult

END_IDS = <END_IDS>  # tokens that end a completion


class OneTurn(Env):
    """The prompt's tokens, then one completion."""

    def __init__(self, row):
        self.row = row

    async def initial_observation(self):
        return tinker.ModelInput.from_ints(self.row["prompt_ids"]), END_IDS

    async def step(self, action, *, extra=None):
        return StepResult(reward=value(self.row, action), episode_done=True,
                          next_observation=tinker.ModelInput.empty(), next_stop_condition=END_IDS)


class Group(EnvGroupBuilder):
    def __init__(self, row):
        self.row = row

    async def make_envs(self):
        return [OneTurn(self.row) for _ in range(<GROUP>)]

    async def compute_group_rewards(self, trajectory_group, env_group):
        return [(0.0, {}) for _ in trajectory_group]

    def logging_tags(self):
        return ["understudy"]


class Prompts(RLDataset):
    """Batches in the order of the file."""

    def __init__(self, rows, size):
        self.rows, self.size = rows, size

    def __len__(self):
        return len(self.rows) // self.size

    def get_batch(self, index):
        return [Group(row) for row in self.rows[index * self.size : (index + 1) * self.size]]


@chz.chz
class Builder(RLDatasetBuilder):
    async def __call__(self):
        return Prompts(rows(), <BATCH>), None

'''

_DISTILL = """

from tinker_cookbook.distillation import train_on_policy
from tinker_cookbook.distillation.datasets import DistillationDatasetConfig, TeacherConfig

TEACHER = <TEACHER>


def value(row, action):
    return 0.0  # the teacher's log-probs are the only signal


def config():
    data = DistillationDatasetConfig(
        dataset_builder=Builder(), teacher_config=TeacherConfig(base_model=TEACHER), groups_per_batch=<BATCH>
    )
    return train_on_policy.Config(
        **start(),
        dataset_configs=[data],
<FIELDS>
    )


if __name__ == "__main__":
    asyncio.run(train_on_policy.main(config()))
"""

_REWARD = """
import sys

from tinker_cookbook.rl import train
from tinker_cookbook.tokenizer_utils import get_tokenizer

sys.path.insert(0, str(HERE.parent))
from rewards import judge  # noqa: E402

TOKENIZER = get_tokenizer(MODEL)


def value(row, action):
    ended = bool(action) and action[-1] in END_IDS
    return judge(row["understudy"], TOKENIZER.decode(action[:-1] if ended else action), ended)


def config():
    return train.Config(
        **start(),
        dataset_builder=Builder(),
<FIELDS>
    )


if __name__ == "__main__":
    asyncio.run(train.main(config()))
"""
