"""TRL: one YAML file of its configuration class and one script per phase."""

from __future__ import annotations

import json
from typing import Any

from understudy.config import Resolved
from understudy.export.data import problem_of, token_rows
from understudy.export.job import Job, Settings, Written, head, json_lines, yaml_lines
from understudy.export.limits import clipped, is_offline, is_reward, ppo_range, trainer_of

IDENTITY = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
"""A chat template that changes nothing: for prompts that are the whole text."""


def write(job: Job) -> Written:
    """config.yaml, train.py and the data of a phase."""
    trainer = trainer_of("trl", job.config).rpartition(".")[2]
    settings = _common(job, trainer)
    {"SFTTrainer": _sft, "DistillationTrainer": _distillation, "GKDTrainer": _gkd, "IWOPDTrainer": _iw_opd,
     "GRPOTrainer": _grpo}[trainer](job, settings)  # fmt: skip
    files = {
        f"{job.name}/config.yaml": f"{head(job, f'Fields of {_config(trainer)}')}\n{yaml_lines(settings)}",
        f"{job.name}/train.py": _script(job, trainer),
        job.data: json_lines(_rows(job, trainer)),
    }
    start = "python" if job.devices == 1 else f"accelerate launch --num_processes {job.devices}"
    return Written(files, f"{start} {job.name}/train.py", settings, tuple(_notes(job, trainer)))


def _config(trainer: str) -> str:
    return trainer.removesuffix("Trainer") + "Config"


def _common(job: Job, trainer: str) -> Settings:
    c, s = job.config, Settings()
    s.add("output_dir", job.output)
    s.add("max_steps", c.updates, "updates")
    s.add("per_device_train_batch_size", job.per_device)
    s.add("gradient_accumulation_steps", job.accumulation, f"{job.batch} completions per update")
    s.pin("learning_rate", c.lr, "TRL's default depends on the trainer (1e-6 or 2e-5)")
    kinds = {"constant": "constant_with_warmup" if c.warmup else "constant"}
    s.pin("lr_scheduler_type", kinds.get(c.schedule, c.schedule), "TRL's default is linear to zero")
    s.add("warmup_steps", c.warmup)
    s.add("optim", "adamw_torch")
    s.add("weight_decay", c.weight_decay)
    s.pin("adam_beta2", c.adam_beta2, "the default is 0.999")
    s.add("max_grad_norm", c.grad_clip, "0 = no clipping")
    s.pin("bf16", c.dtype == "mixed", "TRL computes in bfloat16 unless told otherwise")
    s.pin("gradient_checkpointing", c.activation_checkpointing, "the default is true: the same result, slower")
    s.add("seed", c.seed)
    s.add("logging_steps", 1)
    s.add("save_strategy", "no", "train.py saves the model at the end")
    s.add("report_to", "none")
    return s


def _sampling(job: Job, s: Settings, nucleus: str) -> None:
    s.add("temperature", 1.0, "of sampling and of both softmaxes: another one is not on-policy")
    s.pin("top_p", 1.0, nucleus) if nucleus else s.add("top_p", 1.0, "a nucleus is not on-policy")
    s.add("top_k", 0, "of sampling: none")
    s.pin("max_completion_length", job.room, "the default is 512")


def _sft(job: Job, s: Settings) -> None:
    s.pin("max_length", None, "the default cuts rows at 1024 tokens")
    s.add("packing", False)
    s.add("completion_only_loss", True, "no loss on the prompt")
    s.add("loss_type", "nll", "summed over the update, divided by its number of completion tokens")
    s.pin("train_sampling_strategy", "sequential", "rows are in Understudy's order")


def _beta(c: Resolved) -> tuple[float, str]:
    """TRL's weight of the teacher in the mixture, where its two ends are the KLs."""
    return {
        "kl_expert_student": (0.0, "0 = KL(teacher || student)"),
        "kl_student_expert": (1.0, "1 = KL(student || teacher)"),
        "jsd": (c.beta, "weight of the teacher in the mixture, as in Understudy"),
    }[c.divergence]


def _distillation(job: Job, s: Settings) -> None:
    beta, why = _beta(job.config)
    s.pin("beta", beta, f"{why} (the default is 1, in GKDConfig 0.5)")
    _sampling(job, s, "")
    s.pin("shuffle_dataset", False, "rows are in Understudy's order")


def _gkd(job: Job, s: Settings) -> None:
    c = job.config
    share = c.student_share if c.behavior == "mixture_batch" else 0.0
    beta, why = _beta(c)
    s.pin("lmbda", share, "probability that a batch is the student's (the default is 0.5)")
    s.pin("beta", beta, f"{why} (the default is 0.5)")
    fresh = c.replay == "fresh" and share < 1
    s.pin(
        "seq_kd", fresh, "the teacher's batches are sampled anew" if fresh else "the teacher's batches are the file's"
    )
    s.pin("temperature", 1.0, "of sampling; the default is 0.9, which is not on-policy (the loss always uses 1)")
    s.pin("max_new_tokens", job.room, "the default is 128")
    s.pin("max_length", job.length, "the default cuts rows at 1024 tokens")
    s.pin("train_sampling_strategy", "sequential", "rows are in Understudy's order")


def _iw_opd(job: Job, s: Settings) -> None:
    c = job.config
    if c.weight == "log_ratio":
        s.add("distillation_objective", "iw_opd", "-(log teacher - log student) log student, at the sampled token")
        s.pin("iw_opd_gamma", 0.0, "0 = every token has weight 1 (the default 0.5 weights early tokens more)")
    else:
        beta, why = _beta(c)
        s.pin("distillation_objective", "jsd", "the divergence by beta, not the sampled token")
        s.pin("beta", beta, f"{why} (the default is 1)")
        s.pin("loss_top_k", c.top_k, "top tokens of the first argument of the KL (the default is 1)")
        s.add("loss_add_tail", True, "one bucket for all other tokens")
        if c.top_k == 1 and c.divergence == "kl_student_expert":
            s.pin("reverse_kl_top_1_mode", "argmax", "the default keeps the sampled token, not the most likely one")
    s.add("lmbda", 1.0, "all completions are the student's")
    _sampling(job, s, "the default is 0.95: samples of a nucleus, scored by the full softmax")
    s.pin("max_length", job.length, "the default cuts at 1024 tokens")


def _grpo(job: Job, s: Settings) -> None:
    c = job.config
    s.add("num_generations", c.samples_per_prompt)
    s.add("scale_rewards", "group" if c.advantage_norm == "std" else "none", "divided by the group's deviation, or not")
    kind = "dapo" if c.reduction == "token_mean" else "grpo"
    s.add("loss_type", kind, "dapo = mean over all tokens of the update; grpo = over each completion, then over them")
    s.add("epsilon", clipped(c), ppo_range(c))
    s.add("importance_sampling_level", "token")
    s.add("num_iterations", c.updates_per_rollout)
    s.add("beta", 0.0, "no KL from a reference model")
    s.add("mask_truncated_completions", False, "completions at the limit count, as in Understudy")
    _sampling(job, s, "")
    s.pin("shuffle_dataset", False, "rows are in Understudy's order")


def _notes(job: Job, trainer: str) -> list[str]:
    c, out = job.config, []
    if trainer in ("GKDTrainer", "IWOPDTrainer") and (job.accumulation > 1 or job.devices > 1):
        out.append("TRL means over the tokens of each pass, then over passes and devices; Understudy over all tokens.")
    if trainer == "GKDTrainer" and job.accumulation > 1 and 0 < c.student_share < 1:
        out.append(
            "The coin (student or teacher) is tossed per pass, in Understudy per update: leave --micro-batch out."
        )
    if trainer == "IWOPDTrainer":
        out.append("TRL shuffles the prompts.")
    if is_reward(c) and c.advantage_norm == "std":
        out.append("TRL's group deviation divides by G - 1, Understudy's by G: advantages are smaller by a constant.")
    if c.weight == "log_ratio":
        out.append("The logged loss has another value than Understudy's; its gradient is the same.")
    if c.warmup:
        out.append("TRL's warm-up begins at a learning rate of 0, Understudy's one step later.")
    if c.weight_decay:
        out.append("TRL leaves biases and norms out of the weight decay.")
    return out


def _rows(job: Job, trainer: str) -> list[dict[str, Any]]:
    rows, samples = job.rows, range(job.config.samples_per_prompt)
    if rows.rollouts:
        return token_rows(rows, job.config.samples_per_prompt, "completion_mask")
    each = range(len(rows.prompts))
    if trainer == "GKDTrainer":  # the teacher writes: no completion yet
        return [
            {"prompt": rows.texts[i], "input_ids": list(rows.prompts[i].ids),
             "completion_mask": [0] * len(rows.prompts[i].ids)}
            for i in each for _ in samples
        ]  # fmt: skip
    if trainer == "IWOPDTrainer":
        return [{"messages": rows.turns(i)} for i in each for _ in samples]
    prompts = [rows.turns(i) if rows.chat else rows.texts[i] for i in each]
    if trainer == "GRPOTrainer":  # which repeats each prompt itself
        return [{"prompt": prompts[i], "understudy": problem_of(rows.prompts[i])} for i in each]
    return [{"prompt": prompts[i]} for i in each for _ in samples]


def _script(job: Job, trainer: str) -> str:
    c = job.config
    where = {"GKDTrainer": "trl.experimental.gkd", "IWOPDTrainer": "trl.experimental.iw_opd"}.get(trainer, "trl")
    teacher = trainer in ("DistillationTrainer", "GKDTrainer", "IWOPDTrainer")
    weights = {"mixed": "float32"}.get(c.dtype, c.dtype)
    scores = {"mixed": "bfloat16"}.get(c.dtype, c.dtype)
    lines = [
        head(job, f"{trainer} on the data of this export"),
        "import json",
        *(["import sys"] if is_reward(c) else []),
        "from pathlib import Path",
        "",
        "import torch",
        "import yaml",
        "from datasets import Dataset",
        *(["from peft import LoraConfig"] if c.lora_rank else []),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f"from {where} import {_config(trainer)}, {trainer}",
        "",
        "HERE = Path(__file__).resolve().parent",
        f"STUDENT = {json.dumps(job.student)}",
        *([f"TEACHER = {json.dumps(job.expert)}"] if teacher else []),
        f"END_IDS = {list(job.end_ids)}  # tokens that end a completion",
        "",
        "",
        "def rows():",
        f'    with open(HERE.parent / "{job.data}", encoding="utf-8") as lines:',
        "        return Dataset.from_list([json.loads(line) for line in lines])",
        "",
        "",
        "def load(name, dtype):",
        f"    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, trust_remote_code={c.trust_remote_code})",
        "    model.generation_config.eos_token_id = END_IDS",
        "    return model",
        "",
        "",
        "def trainer(**changes):",
        '    """The trainer of this phase. changes: of fields in config.yaml."""',
        '    fields = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))',
        f"    tokenizer = AutoTokenizer.from_pretrained(STUDENT, trust_remote_code={c.trust_remote_code})",
        "    if tokenizer.pad_token is None:",
        "        tokenizer.pad_token = tokenizer.eos_token",
        *_template(job, trainer),
        f"    made = {trainer}(",
        f"        model=load(STUDENT, torch.{weights}),",
        *([f"        teacher_model=load(TEACHER, torch.{scores}),"] if teacher else []),
        *(_reward() if is_reward(c) else []),
        f"        args={_config(trainer)}(**(fields | changes)),",
        "        train_dataset=rows(),",
        "        processing_class=tokenizer,",
        *(_adapter(c) if c.lora_rank else []),
        "    )",
    ]
    if trainer in ("GKDTrainer", "IWOPDTrainer"):
        lines += ["    # else TRL divides by the number of tokens in the file, not of those that were sampled",
                  "    made.model_accepts_loss_kwargs = False"]  # fmt: skip
    merge = ["made.model.merge_and_unload().save_pretrained(made.args.output_dir)",
             "made.processing_class.save_pretrained(made.args.output_dir)"]  # fmt: skip
    save = merge if c.lora_rank else ["made.save_model()"]
    lines += ["    return made", "", "", 'if __name__ == "__main__":', "    made = trainer()", "    made.train()"]
    lines += [f"    {line}" for line in save]
    if is_reward(c):
        at = lines.index("HERE = Path(__file__).resolve().parent")
        lines[at + 1 : at + 1] = [
            "sys.path.insert(0, str(HERE.parent))",
            "from rewards import reward  # noqa: E402",
            "",
        ]
    return "\n".join(lines) + "\n"


def _template(job: Job, trainer: str) -> list[str]:
    if job.rows.chat or trainer != "IWOPDTrainer":
        return []
    template = ("{{ bos_token }}" if job.bos else "") + IDENTITY
    return ["    # this trainer takes turns only; the prompts are the whole text, which must not change",
            f"    tokenizer.chat_template = {json.dumps(template)}"]  # fmt: skip


def _reward() -> list[str]:
    return ["        reward_funcs=reward,"]


def _adapter(c: Resolved) -> list[str]:
    targets: Any = c.lora_targets if c.lora_targets == "all-linear" else c.lora_targets.split(",")
    alpha = c.lora_alpha or 2 * c.lora_rank
    return [
        f'        peft_config=LoraConfig(task_type="CAUSAL_LM", r={c.lora_rank}, lora_alpha={alpha},',
        f"                               lora_dropout={c.lora_dropout}, target_modules={json.dumps(targets)}),",
    ]


def needs_completions(c: Resolved) -> bool:
    """Whether the data file must hold the expert's completions."""
    return is_offline(c) or (c.behavior == "expert" and c.replay == "fixed")
