"""The logs of other programs are read as they are written: TRL 1.16 from real runs, the others from their sources."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import UserError
from understudy.watch.formats import read
from understudy.watch.log import Log
from understudy.watch.watch import judge

LOGS = Path(__file__).parent / "logs"


def lines(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def only(path: Path) -> Log:
    (log,) = read(path)
    return log


def test_a_real_grpo_run_of_trl():
    log = only(LOGS / "trl_grpo.json")
    assert (log.tool, len(log.rows), log.updates, log.samples) == ("trl", 12, 12, True)
    state = json.loads((LOGS / "trl_grpo.json").read_text())
    first = state["log_history"][0]
    assert dict(log.rows[0].values) == {
        "loss": first["loss"], "grad_norm": first["grad_norm"], "lr": first["learning_rate"],
        "reward": first["reward"], "same_reward": first["frac_reward_zero_std"],
        "length": first["completions/mean_length"], "at_limit": first["completions/clipped_ratio"],
        "entropy": first["entropy"], "clipped": first["clip_ratio/region_mean"],
    }  # fmt: skip


def test_a_real_sft_run_of_trl():
    log = only(LOGS / "trl_sft.json")
    assert not log.samples
    assert log.of("eval_loss").steps == [4, 8, 12]
    assert log.of("loss").steps == list(range(1, 13))


def test_the_newest_checkpoint_of_a_folder_counts(tmp_path: Path):
    """By number: as text 900 comes after 1000."""
    for step in (900, 1000):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        history = [{"step": i, "loss": 1.0} for i in range(1, 4 + (step == 1000))]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history, "max_steps": 2000}))
    assert len(only(tmp_path).rows) == 4


def test_the_console_of_transformers(tmp_path: Path):
    """Printed dicts between bars; evaluations belong to the update before them; numbers may be texts."""
    log = only(lines(tmp_path / "run.out", [
        " 8%|8  | 1/12 [00:00<00:07]   {'loss': '0.5', 'grad_norm': 'nan', 'learning_rate': '1e-04', 'epoch': 0.1}",
        "{'loss': 0.25, 'grad_norm': 2.0, 'learning_rate': 5e-05, 'epoch': 0.2}",
        "{'eval_loss': 0.75, 'eval_runtime': 1.0, 'epoch': 0.2}",
        "{'train_runtime': 3.0, 'train_loss': 99.0}", "{'not': os.system('x')}",
    ]))  # fmt: skip
    assert [row.step for row in log.rows] == [1, 2]
    assert math.isnan(log.rows[0].values["grad_norm"])
    assert dict(log.rows[1].values) == {"loss": 0.25, "grad_norm": 2.0, "lr": 5e-5, "eval_loss": 0.75}


def test_the_loss_of_trl_distillation_is_its_divergence():
    """A real run of DistillationTrainer, beta=1."""
    log = only(LOGS / "trl_distillation.json")
    assert log.of("kl_expert").values == log.of("loss").values
    assert len(log.of("kl_expert")) == 8
    assert log.samples


def test_a_real_run_whose_completions_do_not_end():
    """GRPOTrainer with an end token that the model rarely writes: 7 of 8 completions reach the limit at the start."""
    log = only(LOGS / "trl_end_token.json")
    assert log.of("at_limit").values[:3] == [0.875] * 3
    assert [f.rule.name for f in judge(log).findings] == ["end-token"]


VERL = {
    "actor/entropy": 0.5, "actor/pg_loss": -0.01, "actor/grad_norm": 0.3, "actor/lr": 1e-6, "critic/score/mean": 0.25,
    "response_length/mean": 211.5, "response_length/clip_ratio": 0.125, "actor/pg_clipfrac": 0.002,
    "training/rollout_probs_diff_mean": 0.004, "rollout_corr/kl": 0.001, "timing_s/step": 60.0,
}  # fmt: skip


def verl_line(step: int, record: dict[str, float], wrap: str = "{}") -> str:
    return f"\x1b[36m(TaskRunner pid=41)\x1b[0m step:{step} - " + " - ".join(
        f"{k}:{wrap.format(v)}" for k, v in record.items()
    )


@pytest.mark.parametrize("wrap", ["{}", "np.float64({})"])
def test_verl_console_and_file_say_the_same(tmp_path: Path, wrap: str):
    console = lines(tmp_path / "verl.log", ["loading", *(verl_line(i, VERL, wrap) for i in (1, 2))])
    file = lines(tmp_path / "exp.jsonl", [{"step": i, "data": VERL} for i in (1, 2)])
    a, b = only(console), only(file)
    assert a.tool == b.tool == "verl"
    assert a.rows == b.rows
    assert dict(a.rows[0].values) == {
        "loss": -0.01, "grad_norm": 0.3, "lr": 1e-6, "reward": 0.25, "length": 211.5, "at_limit": 0.125,
        "entropy": 0.5, "probability_gap": 0.004, "kl_sampler": 0.001, "clipped": 0.002,
    }  # fmt: skip


def test_verl_distillation_has_its_masses(tmp_path: Path):
    record = {"actor/distillation/loss": 0.5, "actor/distillation/student_mass": 0.97, "critic/score/mean": 0.0}
    log = only(lines(tmp_path / "a.log", [verl_line(i, record) for i in (1, 2)]))
    assert log.of("student_mass").values == [0.97, 0.97]
    assert not log.has("reward"), "a reward that is always 0 beside a divergence is no reward"


def test_tinker_with_its_config(tmp_path: Path):
    row = {
        "progress/done_frac": 0.1, "optim/lr": 1e-4, "env/all/reward/total": 0.5, "env/all/ac_tokens_per_turn": 64.0,
        "env/all/by_group/frac_mixed": 0.75, "optim/kl_sample_train_v1": 0.002, "optim/entropy": 0.8,
        "env/all/stop/max_tokens": 0.25,
    }  # fmt: skip
    path = lines(tmp_path / "metrics.jsonl", [{"step": 0, **row}, {"note": "no step"}])
    config = {"max_tokens": 256, "dataset_builder": {"groups_per_batch": 32}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    log = only(path)
    assert (log.tool, log.limit, log.prompts, log.updates) == ("tinker", 256, 32, 10)
    assert dict(log.rows[0].values) == {
        "lr": 1e-4, "reward": 0.5, "same_reward": 0.25, "length": 64.0, "at_limit": 0.25, "entropy": 0.8,
        "kl_sampler": 0.002,
    }  # fmt: skip


def test_ms_swift(tmp_path: Path):
    log = only(lines(tmp_path / "logging.jsonl", [
        {"loss": 1.5, "grad_norm": 2.0, "learning_rate": 1e-5, "global_step/max_steps": "5/100", "elapsed_time": "3s"},
        {"eval_loss": 1.25, "global_step/max_steps": "5/100"}, {"last_model_checkpoint": "x", "log_history": []},
    ]))  # fmt: skip
    assert (log.tool, log.updates) == ("ms-swift", 100)
    assert [(r.step, dict(r.values)) for r in log.rows] == [
        (5, {"loss": 1.5, "grad_norm": 2.0, "lr": 1e-5, "eval_loss": 1.25})
    ]


def test_prime_rl_joins_the_lines_of_a_step(tmp_path: Path):
    log = only(lines(tmp_path / "metrics.jsonl", [
        {"step": 3, "time": 1.0, "perf/mfu": 0.3}, {"step": 3, "time": 1.0, "optim/lr": 1e-6, "optim/grad_norm": 0.5},
        {"step": 3, "time": 1.0, "entropy/all/mean": 0.4, "mismatch_kl/all/mean": 0.001, "loss/mean": 0.1},
        {"step": 3, "time": 2.0, "train/agg/all/agent/reward/mean": 0.75},
    ]))  # fmt: skip
    assert (log.tool, len(log.rows)) == ("prime-rl", 1)
    assert dict(log.rows[0].values) == {
        "lr": 1e-6, "grad_norm": 0.5, "entropy": 0.4, "kl_sampler": 0.001, "loss": 0.1, "reward": 0.75
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("missing.log", None, "does not exist"),
        ("empty.log", "", "holds no line of a training log"),
        ("words.log", "step one: begin\n{'a': 1}\n", "holds no line of a training log"),
        ("other.jsonl", '{"epoch": 1, "score": 2}\n', "of no known program"),
        ("state.json", "{", "is not JSON"),
        ("state.json", "[1]", "has no log_history"),
        ("state.json", '{"log_history": [{"step": 1, "epoch": 1}]}', "has no update with a number that is known"),
        ("metrics.jsonl", '{"kind": "train", "step": 1}\n', "give the run directory"),
        ("binary.log", "\0\1\2\xff", "holds no line of a training log"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, name: str, text: str | None, hint: str):
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=hint) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_log_names_the_nearest(tmp_path: Path):
    with pytest.raises(UserError, match="holds no training log; known: trainer_state"):
        read(tmp_path)
    lines(tmp_path / "v0-1" / "logging.jsonl", [{"loss": 1.0, "global_step/max_steps": "1/2"}])
    with pytest.raises(UserError, match=r"look at .*v0-1/logging\.jsonl"):
        read(tmp_path)
    lines(tmp_path / "a.log", ["x"])
    lines(tmp_path / "b.log", ["x"])
    with pytest.raises(UserError, match="several logs"):
        read(tmp_path)


def test_watching_imports_no_torch():
    code = (
        "import sys; from understudy.cli.main import main;"
        f"status = main(['watch', {str(LOGS / 'trl_grpo.json')!r}]);"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'torch was imported'; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "clear" in done.stdout
