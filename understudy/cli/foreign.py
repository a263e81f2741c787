"""Options of other tools (TRL, axolotl, LLaMA-Factory, verl, lm-eval, ...): the option that does it here, or why none.

A row is looked up when a command does not know a word. Its fields are tried in their order among the command's own
options, then in --set where the command has it; else the sentence names the command that has the option.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """Words of other tools that mean one thing."""

    words: str
    """Separated by spaces, with underscores."""
    fields: str = ""
    """Fields that do it here, the first that the command has: `name`, `name=value` (a value in place of the user's) or
    `name!` (a switch)."""
    why: str = ""
    """What differs; alone: why no option does it."""


_MODEL_CALLS = "as many rows as memory allows are computed together, so no option sets a batch size here"
_LAUNCH = "several GPUs: torchrun --nproc-per-node N -m understudy train ... (docs/scaling.md)"
_QUANTIZED = (
    "weights are not quantized here; less memory: --lora-rank 16, --dtype bfloat16 or mixed, --activation-checkpointing"
)
_ROWS = "rows of a file or folder (docs/tasks.md); a known set by its name: --task gsm8k"

ROWS = (
    # precision
    Row("bf16 bfloat16 use_bf16", "dtype=bfloat16", "mixed instead keeps float32 weights while training"),
    Row("fp16 float16 half", "dtype=mixed", "float16 is not offered: bfloat16 products need no loss scaling"),
    Row("torch_dtype precision mixed_precision param_dtype", "dtype", "float32, bfloat16 or mixed"),
    # batch
    Row(
        "batch_size per_device_train_batch_size train_batch_size per_device_batch_size global_batch_size bs"
        " ppo_mini_batch_size groups_per_batch",
        "prompts_per_update", "the whole batch of an update; memory is bounded by --micro-tokens",
    ),
    Row("per_device_eval_batch_size eval_batch_size", "", _MODEL_CALLS),
    Row(
        "gradient_accumulation_steps accumulate_grad_batches grad_accum", "prompts_per_update=BATCH",
        "the whole batch of an update; it is split by itself (--micro-tokens), with the same gradient",
    ),
    Row("micro_batch_size ppo_micro_batch_size_per_gpu", "micro_batch"),
    # length of the training
    Row(
        "num_train_epochs epochs num_epochs total_epochs", "updates=N",
        "an epoch over P problems is P / prompts_per_update updates; prompt_pool=P repeats them",
    ),
    Row("max_steps num_steps steps total_steps iterations total_training_steps num_iterations",
        "updates budget=updates={}"),
    # optimizer
    Row("learning_rate peak_lr", "lr"),
    Row("lr_scheduler_type lr_scheduler scheduler lr_schedule", "schedule", "constant, linear or cosine"),
    Row("warmup_steps lr_warmup_steps num_warmup_steps", "warmup"),
    Row("warmup_ratio", "warmup=N", "in updates, not as a share of them"),
    Row("max_grad_norm clip_grad_norm gradient_clipping gradient_clip_val", "grad_clip"),
    Row("optim optimizer optimizer_type", "", "AdamW is the only optimizer: --lr, --weight-decay, --adam-beta2"),
    Row("adam_beta1 adam_epsilon", "", "AdamW has beta1 = 0.9 and epsilon = 1e-8 here: --adam-beta2 can be changed"),
    Row("neftune_noise_alpha label_smoothing_factor", "", "is not offered: it changes the objective that is compared"),
    # adapters and memory
    Row("lora use_lora peft use_peft qlora use_qlora finetuning_type", "lora_rank=16", "a low-rank adapter"),
    Row("lora_r lora_dim rank", "lora_rank"),
    Row("lora_target_modules target_modules lora_target", "lora_targets", "all-linear, or q_proj,v_proj"),
    Row("gradient_checkpointing enable_gradient_checkpointing activation_offloading", "activation_checkpointing!"),
    Row("load_in_4bit load_in_8bit quantization quantize quantization_bit bnb_4bit_quant_type use_4bit", "",
        _QUANTIZED),
    Row("attn_implementation flash_attention flash_attention_2 use_flash_attention flash_attn", "",
        "attention is computed by PyTorch's own fused kernels: there is nothing to choose"),
    Row("torch_compile compile", "", "models are not compiled here"),
    Row("use_liger_kernel liger_kernel", "logit_chunk=N", "the loss never holds the logits of a whole batch"),
    Row("packing padding_free sample_packing remove_unused_columns group_by_length", "micro_tokens=N",
        "rows of similar length share a forward pass, without packing"),
    # data
    Row("dataset dataset_name train_dataset dataset_path data data_path train_file train_data train_files datasets"
        " dataset_dir train_data_path dataset_mixer", "task=data:path={}", _ROWS),
    Row("eval_dataset validation_file test_file eval_file val_files", "task=data:path=FILE,test_path={}", _ROWS),
    Row("dataset_split dataset_config dataset_text_field prompt_column text_column input_key prompt_key", "",
        "columns and splits are options of the task: --task data:path=FILE,... (docs/tasks.md)"),
    Row("tasks dataset_task env_name environment", "task"),
    Row("template apply_chat_template chat_template use_chat_template", "task=data:path=FILE,template=chat",
        "the template is an option of the task"),
    Row("system system_prompt system_instruction", "task=data:path=FILE,system=TEXT", "or system=@FILE"),
    Row("num_fewshot few_shot n_shots fewshot", "task=NAME:shots={}", "an option of the task"),
    Row("reward_funcs reward_fn reward_function reward_model reward_func custom_reward_function", "reward",
        "FILE.py:function, in place of the task's verifier (docs/tasks.md)"),
    Row("streaming num_proc dataloader_num_workers preprocessing_num_workers", "",
        "rows are read once and held in memory: nothing to set"),
    # models
    Row("student model model_name_or_path model_name pretrained base_model model_path student_model model_id model_args"
        " pretrained_model_name_or_path actor_rollout_ref_model_path", "student model"),
    Row("expert teacher teacher_model teacher_model_name_or_path teacher_path expert_model teacher_name_or_path",
        "expert experts"),
    Row("ref_model reference_model ref_model_path", "base"),
    Row("tokenizer tokenizer_name tokenizer_name_or_path", "", "the tokenizer is the one in the model's folder"),
    Row("adapter adapter_name_or_path peft_model lora_path adapter_path", "",
        "an adapter is given merged: PeftModel.merge_and_unload(), save_pretrained(FOLDER), and that folder as model"),
    Row("revision model_revision", "", "download the revision (hf download OWNER/NAME --revision R --local-dir FOLDER) "
        "and give the folder"),
    # output
    Row("output_dir output_path save_dir output save_path results_dir run_dir default_local_dir log_dir", "out"),
    Row("save_steps save_interval save_freq checkpoint_every", "save_every"),
    Row("save_total_limit keep_last_n", "keep"),
    Row("eval_steps eval_interval eval_strategy evaluation_strategy test_freq", "eval_every=N", "in updates"),
    Row("logging_steps log_interval log_every logging_strategy", "", "every update is a line of metrics.jsonl"),
    Row("report_to log_with logger", "tracker", "tensorboard, wandb or trackio"),
    Row("wandb use_wandb wandb_project run_name experiment_name project_name", "tracker=wandb"),
    Row("resume resume_from_checkpoint continue_from auto_resume", "", "the same command again resumes"),
    Row("overwrite_output_dir force overwrite", "", "nothing is overwritten: choose another --out, or remove the old "
        "directory"),
    Row("push_to_hub hub_model_id push_to_hub_model_id", "push_to_hub",
        "OWNER/NAME; the model of a finished run: understudy push RUN OWNER/NAME"),
    Row("hub_token", "", "the token is read from the environment variable HF_TOKEN alone"),
    Row("log_samples save_completions log_completions", "out=DIR", "completions are kept there"),
    # sampling
    Row("max_completion_length max_length max_seq_length max_tokens max_response_length max_gen_toks cutoff_len "
        "generate_max_len max_new_token completion_length", "max_new_tokens", "of the completion alone"),
    Row("max_prompt_length prompt_max_len truncation", "", "prompts are never cut: one that does not fit is refused"),
    Row("num_generations num_return_sequences n_samples_per_prompt rollout_n n group_size repeats",
        "samples_per_prompt samples"),
    Row("gen_kwargs generation_config", "temperature=1.0", "and --top-p 1.0"),
    Row("top_k min_p repetition_penalty presence_penalty", "", "sampling is by --temperature and --top-p alone"),
    Row("do_sample greedy", "", "greedy and sampled accuracy are both measured"),
    Row("limit num_samples num_prompts num_examples n_examples max_samples", "prompts final_prompts"),
    Row("num_workers", "workers"),
    # methods
    Row("lmbda on_policy_fraction", "student_share", "of method gkd"),
    Row("algorithm algo trainer stage loss_type adv_estimator rl_algorithm", "method routes",
        "sft, gkd, opd, opd_full, grpo, ... (docs/algorithms.md)"),
    Row("use_vllm vllm vllm_mode", "sampler=vllm", "or a server: --sampler http://HOST:PORT/v1"),
    Row("base_url api_base server_url vllm_server_host teacher_url host endpoint", "expert=http://HOST:PORT/v1",
        "an expert that is a server (docs/servers.md)"),
    Row("api_key openai_api_key key token hf_token password", "",
        "keys are read from the environment alone: UNDERSTUDY_API_KEY (docs/servers.md), HF_TOKEN for the hub"),
    # machine
    Row("num_gpus gpus nproc_per_node num_processes world_size n_gpus nnodes tensor_parallel_size tp", "", _LAUNCH),
    Row("deepspeed fsdp zero_stage accelerate_config distributed_strategy", "",
        f"weights are sharded without a configuration file; {_LAUNCH}"),
    Row("cpu use_cpu no_cuda", "device=cpu"),
    Row("cuda gpu use_cuda", "device=cuda"),
    Row("random_seed data_seed", "seed"),
    Row("config_file yaml cfg config_path", "config"),
)  # fmt: skip

BATCHLESS = frozenset(["batch_size", "per_device_train_batch_size", "train_batch_size", "per_device_batch_size", "bs"])
"""Words that set memory where nothing is trained."""
SECRET = frozenset(["api_key", "openai_api_key", "key", "token", "hf_token", "hub_token", "password"])
"""Words whose values are not repeated."""
_DATA = (".jsonl", ".parquet", ".csv", ".arrow")


def shown(words: Sequence[str]) -> str:
    """The words of a command line, without a secret among them."""
    out, hidden = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        secret = name.lstrip("-").replace("-", "_").lower() in SECRET and name.startswith("-")
        out.append(name + "=..." if secret and equals else "..." if hidden and not word.startswith("-") else word)
        hidden = secret and not equals
    return " ".join(out)


def hint(word: str, value: str, own: Collection[str]) -> str:
    """What to write instead of --word VALUE where the options are `own`; "" for a word that is in no row."""
    name = word.lstrip("-").replace("-", "_").lower()
    row = next((r for r in ROWS if name in r.words.split()), None)
    if row is None and _trains(name):  # ours, but of another command
        row = Row(name, name)
    if row is None:
        return ""
    if name in BATCHLESS and not {"prompts_per_update", "set"} & set(own):
        return _MODEL_CALLS
    written = list(_written(row, value, own))
    if not written:
        return row.why
    return written[0] + (f" ({row.why})" if row.why else "")


def bare(word: str, own: Collection[str]) -> str:
    """The same for a word without dashes: a file whose option was left out."""
    suffix = Path(word).suffix.lower()
    if suffix in (".yaml", ".yml", ".json") and "config" in own:
        return f"here --config {word}"
    if suffix in _DATA and "task" in own:
        return f"here --task data:path={word}"
    return ""


def _written(row: Row, value: str, own: Collection[str]) -> Iterator[str]:
    """The option as it is written, the best first."""
    for form in ("own", "set", "train"):
        for item in row.fields.split(" ") if row.fields else ():
            name, _, fixed = item.partition("=")
            field = name.rstrip("!")
            text = fixed.format(value or "FILE") if fixed else "true" if name.endswith("!") else value or "VALUE"
            option = f"--{field.replace('_', '-')}" + ("" if name.endswith("!") else f" {text}")
            if form == "own" and field in own and not (field == "budget" and "axis" in own):  # of auto, a text
                yield f"here {option}"
            elif form == "set" and "set" in own and _trains(field):
                yield f"here --set {field}={text}"
            elif form == "train" and _trains(field):
                yield f"an option of `understudy train`: {option}"


def _trains(field: str) -> bool:
    from understudy.config import TrainConfig  # only where a word is unknown: it reads the table of methods

    return field in {f.name for f in fields(TrainConfig)}
