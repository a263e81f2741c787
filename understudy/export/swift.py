"""ms-swift: one shell script per phase, and the data as its JSON lines of messages."""

from __future__ import annotations

from typing import Any

from understudy.config import Resolved
from understudy.export.data import problem_of
from understudy.export.job import Job, Settings, Written, head, json_lines, shell_options
from understudy.export.limits import clipped, is_divergence, is_offline, is_reward, ppo_range, teaches
from understudy.export.trl import _beta as trl_beta


def write(job: Job) -> Written:
    """train.sh and the data of a phase."""
    settings = _settings(job)
    command = "swift sft" if is_offline(job.config) else "swift rlhf"
    start = f"NPROC_PER_NODE={job.devices} {command}"
    comments = [f"# --{item.name}: {item.why}" for item in settings.items if item.why]
    text = "\n".join(["#!/bin/sh", head(job, "Run from the export's folder"), *comments, "set -e",
                      f"{start} \\\n{shell_options(settings)}", *_merge(job), ""])  # fmt: skip
    files = {f"{job.name}/train.sh": text, job.data: json_lines(_rows(job))}
    return Written(files, f"sh {job.name}/train.sh", settings, tuple(_notes(job)))


def _merge(job: Job) -> list[str]:
    if not job.config.lora_rank:
        return []
    adapter = f"{job.output}/checkpoint-{job.config.updates}"
    return [f"swift export --adapters '{adapter}' --merge_lora true --output_dir '{model_of(job)}'"]


def model_of(job: Job) -> str:
    """Where ms-swift leaves the model after the last update; an adapter is merged by the script."""
    return f"{job.output}/{'merged' if job.config.lora_rank else f'checkpoint-{job.config.updates}'}"


def needs_completions(c: Resolved) -> bool:
    """Whether the data file must hold the expert's completions."""
    return is_offline(c) or (is_divergence(c) and c.behavior in ("expert", "mixture_batch"))


def _settings(job: Job) -> Settings:
    c, s = job.config, Settings()
    if not is_offline(c):
        s.add("rlhf_type", "gkd" if is_divergence(c) else "grpo")
    s.add("model", job.student)
    if teaches(c):
        s.add("teacher_model", job.expert)
    _tuner(c, s)
    s.add("dataset", job.data)
    s.add("split_dataset_ratio", 0)
    s.pin("dataset_shuffle", False, "rows are in Understudy's order")
    if is_offline(c):
        s.pin("train_dataloader_shuffle", False, "likewise")
    s.pin(
        "use_chat_template",
        job.rows.chat,
        "false: prompts are the whole text" if not job.rows.chat else "the model's own",
    )
    s.pin("max_length", job.length, "the default is the model's context")
    s.add("max_steps", c.updates, "updates")
    s.add("per_device_train_batch_size", job.per_device)
    s.pin("gradient_accumulation_steps", job.accumulation, f"{job.batch} completions per update")
    s.pin("learning_rate", c.lr, "the default is 1e-4 for adapters, 1e-5 else")
    s.pin("lr_scheduler_type", c.schedule if c.schedule != "constant" or not c.warmup else "constant_with_warmup",
          "the default is cosine")  # fmt: skip
    s.add("warmup_steps", c.warmup)
    s.pin("weight_decay", c.weight_decay, "the default is 0.1")
    s.add("adam_beta2", c.adam_beta2)
    s.add("max_grad_norm", c.grad_clip)
    s.pin("torch_dtype", "float32" if c.dtype == "mixed" else c.dtype, "of the weights")
    s.add("bf16", c.dtype == "mixed")
    s.pin("gradient_checkpointing", c.activation_checkpointing, "the default is true: the same result, slower")
    if is_divergence(c):
        _gkd(job, s)
    elif not is_offline(c):
        _grpo(job, s)
    s.add("seed", c.seed)
    s.add("logging_steps", 1)
    s.add("save_steps", c.updates)
    s.add("output_dir", job.output)
    s.pin("add_version", False, "the model is in the folder itself")
    return s


def _tuner(c: Resolved, s: Settings) -> None:
    if not c.lora_rank:
        s.pin("tuner_type", "full", "the default trains an adapter")
        return
    s.add("tuner_type", "lora")
    s.add("lora_rank", c.lora_rank)
    s.pin("lora_alpha", c.lora_alpha or 2 * c.lora_rank, "the default is 32")
    s.pin("lora_dropout", c.lora_dropout, "the default is 0.05")
    s.add("target_modules", c.lora_targets if c.lora_targets == "all-linear" else c.lora_targets.replace(",", " "))


def _gkd(job: Job, s: Settings) -> None:
    c = job.config
    share = {"student": 1.0, "expert": 0.0}.get(c.behavior, c.student_share)
    beta, why = trl_beta(c)
    s.pin("lmbda", share, "probability that a batch is the student's (the default is 0.5)")
    s.pin("beta", beta, f"{why} (the default is 0.5)")
    s.pin("temperature", 1.0, "of sampling and of both softmaxes (the default is 0.9)")
    s.add("sft_alpha", 0, "no cross-entropy is added")
    s.add("top_p", 1.0, "of sampling")
    s.add("top_k", -1, "of sampling: none")
    s.pin("max_completion_length", job.room, "the default is 512")
    if c.top_k:
        s.pin("gkd_logits_topk", c.top_k, "over the teacher's top tokens, renormalised")


def _grpo(job: Job, s: Settings) -> None:
    c = job.config
    s.pin("num_generations", c.samples_per_prompt, "the default is 8")
    s.pin("beta", 0.0, "no KL from a reference model (the default is 0.04)")
    s.pin("temperature", 1.0, "the default is 0.9")
    s.add("top_p", 1.0)
    s.add("top_k", -1)
    s.pin("max_completion_length", job.room, "the default is 512")
    s.pin("loss_type", "dapo" if c.reduction == "token_mean" else "grpo", "dapo = mean over all tokens of the update")
    s.pin("epsilon", clipped(c), f"{ppo_range(c)} (the default is 0.2)")
    s.add("num_iterations", c.updates_per_rollout)
    if is_reward(c):
        s.pin(
            "scale_rewards",
            "group" if c.advantage_norm == "std" else "none",
            "divided by the group's deviation, or not",
        )
        s.add("external_plugins", "rewards.py")
        s.add("reward_funcs", "understudy")
    else:
        s.add("teacher_kl_coef", 1.0, "advantage = log teacher - log student of the sampled token, no task reward")
    s.pin("use_vllm", True, "samples with vLLM; false needs none and is slow")
    s.pin("vllm_mode", "colocate", "")


def _notes(job: Job) -> list[str]:
    c, out = job.config, []
    if job.rows.rollouts:
        out.append("ms-swift tokenizes completions itself and ends them as its template does (for some models with a "
                   "line break after the end token, which then counts in the loss).")  # fmt: skip
    if is_divergence(c) and (job.accumulation > 1 or job.devices > 1):
        out.append(
            "Its GKD means over the tokens of each pass, then over passes and devices; Understudy over all tokens."
        )
    if is_divergence(c) and c.behavior == "mixture_batch":
        out.append("The expert's completions are drawn beforehand, one for every row; Understudy draws anew.")
    if is_reward(c):
        out.append("A completion that was cut at the limit is judged by its text.")
    return out


def _rows(job: Job) -> list[dict[str, Any]]:
    rows, samples = job.rows, job.config.samples_per_prompt
    if rows.rollouts:
        return [
            {"messages": [*rows.turns(i // samples), {"role": "assistant", "content": r.text}]}
            for i, r in enumerate(rows.rollouts)
        ]
    if not is_reward(job.config):
        samples = samples if is_divergence(job.config) else 1  # GRPO repeats each prompt itself
        return [{"messages": rows.turns(i)} for i in range(len(rows.prompts)) for _ in range(samples)]
    return [{"messages": rows.turns(i), "understudy": problem_of(p)} for i, p in enumerate(rows.prompts)]
