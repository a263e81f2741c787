"""TRL itself runs what is exported for it: its classes parse the files, and its losses are those of our rows."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import config

from understudy.config import Resolved, resolve, to_dict
from understudy.experts.local import LocalExpert
from understudy.export.config import ExportConfig
from understudy.export.write import export
from understudy.methods.losses import scales
from understudy.policy import Policy, load_policy
from understudy.training.labels import batches, label, objective, split
from understudy.training.train import train
from understudy.types import Ledger, Prompt, Rollout

pytest.importorskip("trl")
pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")

CASES: dict[str, dict[str, Any]] = {
    "opd_full": {},
    "gkd": {"student_share": 1.0, "beta": 0.3},
    "word_kd": {},
    "opd": {},
    "opd_full, top 4 and a tail": {"top_k": 4},
    "opd_full, top 4 of the expert": {"top_k": 4, "top_k_of": "expert", "divergence": "kl_expert_student"},
}


def trainer(folder: Path, name: str) -> Any:
    """The trainer of an exported script."""
    spec = importlib.util.spec_from_file_location("exported_train", folder / name / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.trainer(output_dir=str(folder / "models"), use_cpu=True, disable_tqdm=True)


def first_step(made: Any) -> tuple[float, torch.Tensor, dict[str, Any]]:
    """TRL's loss of its first update, the gradient, and the tensors that the loss was computed from."""
    seen: dict[str, Any] = {}
    compute = made.compute_loss

    def spy(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        seen.update(inputs)
        return compute(model, inputs, *args, **kwargs)

    made.compute_loss = spy
    made.current_gradient_accumulation_steps = 1
    made.create_optimizer_and_scheduler(1)
    rows, items = made.get_batch_samples(iter(made.get_train_dataloader()), 1, torch.device("cpu"))
    made.model.train()
    loss = float(made.training_step(made.model, rows[0], items))
    return loss, torch.cat([p.grad.flatten() for p in made.model.parameters()]), seen


def rollouts_of(seen: dict[str, Any]) -> list[Rollout]:
    """The completions that TRL's tensors hold."""
    if "completion_ids" in seen:
        ids = torch.cat([seen["prompt_ids"], seen["completion_ids"]], 1)
        mask = torch.cat([seen["prompt_mask"], seen["completion_mask"]], 1)
        labels = torch.cat([torch.full_like(seen["prompt_ids"], -100), seen["completion_ids"]], 1)
    else:
        ids, labels, mask = seen["input_ids"], seen["labels"], seen["attention_mask"]
    out = []
    for i, keep in enumerate(mask.bool()):
        row, before = tuple(ids[i][keep].tolist()), int((labels[i][keep] == -100).sum())
        completion = row[before:]
        out.append(
            Rollout(Prompt(str(i), "", ids=row[:before]), 0, completion, (0.0,) * len(completion), True, "", "s")
        )
    return out


def our_step(c: Resolved, rollouts: list[Rollout], student: Policy, expert: LocalExpert) -> tuple[float, torch.Tensor]:
    """Loss and gradient of our row on the same completions."""
    behavior = student.score(rollouts)
    rollouts = [replace(r, behavior_logp=tuple(x.tolist())) for r, x in zip(rollouts, behavior)]
    labelled = label(rollouts, c, student, expert, Ledger())
    total, loss = sum(len(r.ids) for r in rollouts), 0.0
    for batch in batches(split(labelled, student), student):
        part, _, _ = student.losses(
            batch, objective(c), scales(batch.row_N, c.reduction, total, len(rollouts)), 0, None
        )
        part.backward()
        loss += float(part.detach())
    return loss, torch.cat([p.grad.flatten() for p in student.trained().values() if p.grad is not None])


@pytest.mark.parametrize("case", CASES)
def test_first_step_has_our_loss_and_gradient(case: str, tmp_path: Path, models: dict[str, Path]) -> None:
    """Catches another direction of the KL, a temperature, another reduction, a prompt or padding in the loss."""
    method = case.partition(",")[0]
    c = config(
        method, tmp_path / "unused", task="countdown", student=str(models["llama"]), expert=str(models["qwen2"]),
        updates=1, samples_per_prompt=1, max_new_tokens=6, **CASES[case],
    )  # fmt: skip
    (tmp_path / "options.json").write_text(json.dumps(to_dict(c)))
    export(ExportConfig((str(tmp_path / "options.json"),), "trl", str(tmp_path / "out"), sample_expert=True))
    made = trainer(tmp_path / "out", f"1-{method}")
    theirs, gradient, seen = first_step(made)
    student = load_policy(str(models["llama"]), "student", device="cpu")
    expert = LocalExpert(load_policy(str(models["qwen2"]), "expert", device="cpu"))
    ours, own = our_step(resolve(c), rollouts_of(seen), student, expert)
    if method != "opd":  # whose loss has the same gradient, but is another number
        assert abs(theirs - ours) < 1e-5
    assert float((gradient - own).norm()) < 1e-5 * float(own.norm())


def test_sft_is_the_same_training_to_its_last_weight(tmp_path: Path, models: dict[str, Path]) -> None:
    """Catches rows in another order, another optimizer, schedule or clipping, and an end token that is lost."""
    run = train(config("sft", tmp_path / "run", task="countdown", student=str(models["llama"]), schedule="cosine",
                       updates=3, grad_clip=0.5))  # fmt: skip
    export(ExportConfig((str(run),), "trl", str(tmp_path / "out"), micro_batch=4))
    made = trainer(tmp_path / "out", "1-sft")
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx([r["loss"] for r in records if "loss" in r], abs=1e-5)
    ours = load_policy(str(run / "final"), "student", device="cpu").model.state_dict()
    for name, weight in made.model.state_dict().items():
        torch.testing.assert_close(weight, ours[name], atol=1e-5, rtol=0)


def test_grpo_trains_on_the_exported_reward(tmp_path: Path, models: dict[str, Path]) -> None:
    c = config("grpo", tmp_path / "unused", student=str(models["llama"]), expert="", task="coin", updates=1,
               max_new_tokens=4)  # fmt: skip
    (tmp_path / "options.json").write_text(json.dumps(to_dict(c)))
    export(ExportConfig((str(tmp_path / "options.json"),), "trl", str(tmp_path / "out")))
    made = trainer(tmp_path / "out", "1-grpo")
    made.train()
    rewards = [entry["reward"] for entry in made.state.log_history if "reward" in entry]
    assert len(rewards) == 1
    assert 0 <= rewards[0] <= 1
