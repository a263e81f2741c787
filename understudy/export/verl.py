"""verl: one Hydra configuration per phase, on top of verl's own, and the data as JSON lines."""

from __future__ import annotations

from typing import Any

from understudy.export.data import problem_of, token_rows
from understudy.export.job import Job, Settings, Written, head, json_lines, yaml_lines
from understudy.export.limits import clipped, is_offline, is_reward, ppo_range, teaches
from understudy.export.trl import IDENTITY

NO_CLIP = 1e9  # verl has no value for "do not clip gradients"; 0 would make every gradient 0
NAME = "understudy"  # of the data source
REDUCTIONS = {"token_mean": "token-mean", "sequence_mean": "seq-mean-token-mean", "sequence_sum": "seq-mean-token-sum"}


def write(job: Job) -> Written:
    """config.yaml, for SFT dataset.py, and the data of a phase."""
    offline = is_offline(job.config)
    settings = _sft(job) if offline else _ppo(job)
    base = "sft_trainer_engine" if offline else "ppo_trainer"
    lines = [head(job, f"Hydra configuration on top of verl's {base}"), "hydra:", "  searchpath:",
             "    - pkg://verl.trainer.config", "", "defaults:", f"  - {base}", "  - _self_", "", ""]  # fmt: skip
    files = {f"{job.name}/config.yaml": "\n".join(lines) + yaml_lines(settings), job.data: json_lines(_rows(job))}
    if offline:
        files[f"{job.name}/dataset.py"] = f"{head(job, 'Token ids as verl.trainer.sft_trainer reads them')}\n{_DATASET}"
    module = "verl.trainer.sft_trainer" if offline else "verl.trainer.main_ppo"
    start = f"torchrun --standalone --nproc_per_node={job.devices} -m" if offline else "python -m"
    command = f'{start} {module} --config-path "$PWD/{job.name}" --config-name config'
    return Written(files, command, settings, tuple(_notes(job)))


def model_of(job: Job) -> str:
    """Where verl leaves the trained model in Hugging Face's format."""
    inner = "huggingface" if is_offline(job.config) else "actor/huggingface"
    return f"{job.output}/global_step_{job.config.updates}/{inner}"


def _trainer(job: Job, s: Settings) -> None:
    c = job.config
    s.pin("trainer.total_training_steps", c.updates, "updates")
    s.pin("trainer.total_epochs", 1, "the file has the rows of all updates (the defaults are 30, SFT 4)")
    s.add("trainer.nnodes", 1)
    s.pin("trainer.n_gpus_per_node", job.devices, "for the student")
    s.add("trainer.save_freq", c.updates, "the model at the end")
    s.add("trainer.test_freq", -1, "evaluate with understudy eval")
    s.add("trainer.logger", ["console"])
    s.add("trainer.project_name", NAME)
    s.add("trainer.experiment_name", job.name)
    s.add("trainer.default_local_dir", job.output)


def _optimizer(job: Job, s: Settings, group: str) -> None:
    c = job.config
    s.pin(f"{group}.lr", c.lr, "the default is 1e-6 (SFT 1e-3)")
    s.pin(f"{group}.betas", [0.9, c.adam_beta2], "the default is 0.9, 0.999")
    s.pin(f"{group}.weight_decay", c.weight_decay, "the default is 0.01")
    s.add(f"{group}.clip_grad", c.grad_clip or NO_CLIP)
    s.add(f"{group}.lr_scheduler_type", c.schedule)
    s.add(f"{group}.lr_warmup_steps", c.warmup or -1)
    s.add(f"{group}.min_lr_ratio", 0.0)


def _model(job: Job, s: Settings, group: str) -> None:
    c = job.config
    s.add(f"{group}.path", job.student)
    s.add(f"{group}.trust_remote_code", c.trust_remote_code)
    s.pin(
        f"{group}.enable_gradient_checkpointing", c.activation_checkpointing, "the default is true: same result, slower"
    )
    if not job.rows.chat and not is_offline(c):
        template = ("{{ bos_token }}" if job.bos else "") + IDENTITY
        s.pin(f"{group}.custom_chat_template", template, "prompts are the whole text, which no template may change")
    if c.lora_rank:
        s.add(f"{group}.lora_rank", c.lora_rank)
        s.pin(f"{group}.lora_alpha", c.lora_alpha or 2 * c.lora_rank, "the default is 16")
        targets: Any = c.lora_targets if c.lora_targets == "all-linear" else c.lora_targets.split(",")
        s.add(f"{group}.target_modules", targets)


def _sft(job: Job) -> Settings:
    s = Settings()
    s.add("data.train_files", job.data)
    s.add("data.custom_cls.path", f"{job.name}/dataset.py", "token ids: no chat template comes between")
    s.add("data.custom_cls.name", "TokenDataset")
    s.pin("data.train_batch_size", job.batch, "completions per update (the default is 256)")
    s.add("data.micro_batch_size_per_gpu", job.per_device)
    s.pin("data.use_dynamic_bsz", False, "passes of the size above")
    s.pin("data.max_length", job.length, "the default stops at rows over 1024 tokens")
    s.add("data.truncation", "error")
    s.add("data.pad_mode", "no_padding", "the loss is the mean over all completion tokens of the update")
    _model(job, s, "model")
    _optimizer(job, s, "optim")
    s.add("engine.model_dtype", "bf16" if job.config.dtype == "bfloat16" else "fp32", "of the weights")
    s.pin("checkpoint.save_contents", ["model", "optimizer", "extra", "hf_model"], "also in Hugging Face's format")
    _trainer(job, s)
    s.add("trainer.seed", job.config.seed)
    return s


def _ppo(job: Job) -> Settings:
    c, s = job.config, Settings()
    s.pin("algorithm.adv_estimator", "grpo", "the default gae trains a critic")
    s.pin("algorithm.norm_adv_by_std_in_grpo", is_reward(c) and c.advantage_norm == "std", "divided by the deviation?")
    s.add("algorithm.use_kl_in_reward", False)
    s.add("data.train_files", job.data)
    s.add("data.val_files", job.data, "required by verl; not used, see test_freq")
    s.add("data.val_max_samples", 1)
    s.pin("data.train_batch_size", c.prompts_per_update, "prompts per update (the default is 1024)")
    s.pin("data.max_prompt_length", job.rows.longest, "the default is 512")
    s.pin("data.max_response_length", job.room, "the default is 512")
    s.pin("data.shuffle", False, "rows are in Understudy's order")
    s.add("data.truncation", "error")
    _model(job, s, "actor_rollout_ref.model")
    group = "actor_rollout_ref.actor"
    s.pin(f"{group}.ppo_mini_batch_size", c.prompts_per_update, "one optimizer step per update")
    s.pin(f"{group}.ppo_micro_batch_size_per_gpu", job.per_device, "completions per pass")
    s.add(f"{group}.ppo_epochs", c.updates_per_rollout, "updates on the same completions")
    s.add(f"{group}.loss_agg_mode", REDUCTIONS[c.reduction])
    for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"):
        s.add(f"{group}.{name}", clipped(c), ppo_range(c))
    s.add(f"{group}.entropy_coeff", 0)
    s.add(f"{group}.use_kl_loss", False, "no KL from a reference model (kl_loss_type, k3 by default, is then not read)")
    _optimizer(job, s, f"{group}.optim")
    s.add(f"{group}.fsdp_config.model_dtype", "bf16" if c.dtype == "bfloat16" else "fp32", "of the weights")
    contents = ["model", "optimizer", "extra", "hf_model"]
    s.pin(f"{group}.checkpoint.save_contents", contents, "also in Hugging Face's format")
    rollout = "actor_rollout_ref.rollout"
    s.pin(f"{rollout}.name", "vllm", "no default")
    s.pin(f"{rollout}.n", c.samples_per_prompt, "completions per prompt")
    s.add(f"{rollout}.temperature", 1.0, "another one is not on-policy")
    s.add(f"{rollout}.top_p", 1.0)
    s.add(f"{rollout}.top_k", -1)
    s.add(f"{rollout}.log_prob_micro_batch_size_per_gpu", job.per_device)
    s.pin("reward.custom_reward_function.path", "rewards.py", "verl knows no reward for this data")
    s.add("reward.custom_reward_function.name", "compute_score")
    if teaches(c):
        _distillation(job, s)
    _trainer(job, s)
    s.pin("trainer.val_before_train", False, "the default evaluates first")
    return s


def _distillation(job: Job, s: Settings) -> None:
    c = job.config
    s.pin("distillation.enabled", True, "")
    s.pin("distillation.nnodes", 1, "of the teacher (the default is 0)")
    s.pin("distillation.n_gpus_per_node", 1, "of the teacher, beside the student's")
    teacher = "distillation.teacher_models.teacher_model"
    s.add(f"{teacher}.key", NAME, "the rows' data_source")
    s.add(f"{teacher}.model_path", job.expert)
    s.pin(f"{teacher}.num_replicas", 1, "the default is 0")
    s.pin(f"{teacher}.inference.tensor_model_parallel_size", 1, "the default is 2")
    loss = "distillation.distillation_loss"
    s.pin(f"{loss}.use_task_rewards", False, "the default adds the reward's policy gradient")
    s.add(f"{loss}.loss_max_clamp", None, "no clamp (verl's dataclass has 10)")
    s.add(f"{loss}.log_prob_min_clamp", None, "no clamp (verl's dataclass has -10)")
    if c.weight == "log_ratio":
        s.pin(f"{loss}.loss_mode", "k1", "log student - log teacher (the default k3 is another estimator)")
        s.pin(f"{loss}.use_policy_gradient", True, "as the advantage of the sampled token; k3 without it descends "
              "KL(teacher || student)")  # fmt: skip
        for name in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"):
            s.pin(f"{loss}.{name}", clipped(c), f"{ppo_range(c)} (the default is 0.2)")
    else:
        s.pin(f"{loss}.loss_mode", "forward_kl_topk", "KL(teacher || student) over the teacher's top tokens")
        s.add(f"{loss}.use_policy_gradient", False)
        s.pin(f"{loss}.topk", c.top_k, "the default is 32")


def _notes(job: Job) -> list[str]:
    c, out = job.config, []
    if c.dtype == "float32":
        out.append("verl multiplies in bfloat16 and samples with vLLM in bfloat16.")
    if is_offline(c):
        out.append("verl shuffles the rows.")
    if is_reward(c):
        out.append("A completion that was cut at the limit is judged by its text: verl does not say whether it ended.")
        if c.advantage_norm == "std":
            out.append(
                "verl's group deviation divides by G - 1, Understudy's by G: advantages are smaller by a constant."
            )
    if not is_offline(c) and c.updates_per_rollout > 1:
        out.append("verl also bounds the ratio of bad completions (dual clip at 3).")
    if not is_offline(c) and len(job.end_ids) > 1:
        out.append(f"vLLM must stop at tokens {list(job.end_ids)}: put them into the student's generation_config.json.")
    return out


def _rows(job: Job) -> list[dict[str, Any]]:
    rows = job.rows
    if rows.rollouts:
        return token_rows(rows, job.config.samples_per_prompt, "loss_mask")
    return [
        {"data_source": NAME, "prompt": rows.turns(i), "ability": "",
         "reward_model": {"style": "rule", "ground_truth": problem_of(p)}, "extra_info": {"index": i}}
        for i, p in enumerate(rows.prompts)
    ]  # fmt: skip


_DATASET = '''import json

import torch
from torch.utils.data import Dataset


class TokenDataset(Dataset):
    """Rows of input_ids with loss_mask 1 on the completion."""

    def __init__(self, parquet_files, tokenizer, config, processor=None, max_samples=-1):
        names = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        self.rows = [json.loads(line) for name in names for line in open(name, encoding="utf-8")]
        if max_samples > 0:
            self.rows = self.rows[:max_samples]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        ids = torch.tensor(self.rows[i]["input_ids"])
        mask = torch.tensor(self.rows[i]["loss_mask"])
        return {"input_ids": ids, "position_ids": torch.arange(len(ids)), "loss_mask": mask}
'''
