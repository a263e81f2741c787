"""The others: transformers' `generate`, a loop written by hand, and TRL's trainers, one update at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.models import text
from understudy.tasks.tokenizer import shared_tokenizer


def encoded(prompts: int, samples: int, length: int, first: int = 0) -> torch.Tensor:
    """(prompts * samples, length) prompt ids, the samples of a prompt beside each other."""
    texts = [text(i, length) for i in range(first, first + prompts) for _ in range(samples)]
    return torch.tensor(shared_tokenizer()(texts)["input_ids"])


def lengths(ids_BT: torch.Tensor, end: int) -> torch.Tensor:
    """(B,) tokens up to the first end, which counts."""
    ended = ids_BT == end
    return torch.where(ended.any(1), ended.int().argmax(1) + 1, ids_BT.shape[1])


def sampled(model: Any, prompt_BS: torch.Tensor, room: int, static: bool = False) -> torch.Tensor:
    """(B, S + T) by generate: the plain softmax, no scores returned."""
    cache = {"cache_implementation": "static"} if static else {}
    return model.generate(
        prompt_BS, attention_mask=torch.ones_like(prompt_BS), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
        max_new_tokens=room, **cache,
    )  # fmt: skip


def generate(model: Any, prompts: int, samples: int, length: int, room: int, static: bool) -> Callable[[], int]:
    """A contender that draws the same number of completions with generate."""
    prompt_BS, end = encoded(prompts, samples, length), model.config.eos_token_id

    def work() -> int:
        with torch.no_grad():
            out = sampled(model, prompt_BS, room, static)
        return int(lengths(out[:, length:], end).sum())

    return work


class ByHand:
    """On-policy distillation in the fewest lines: generate, two forward passes, KL(student || expert), AdamW."""

    def __init__(self, student: Any, expert: Any, prompts: int, samples: int, length: int, room: int) -> None:
        self.student, self.expert, self.size = student, expert, (prompts, samples, length)
        self.room, self.step = room, 0
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0, fused=True)

    def whole(self) -> int:
        prompts, samples, length = self.size
        prompt_BS = encoded(prompts, samples, length, self.step * prompts)
        self.step += 1
        with torch.no_grad():
            ids = sampled(self.student, prompt_BS, self.room)
            n = lengths(ids[:, length:], self.student.config.eos_token_id)
            mask = (torch.arange(ids.shape[1] - length) < n[:, None]).float()
            expert = self.expert(ids[:, :-1]).logits[:, length - 1 :].log_softmax(-1)
        student = self.student(ids[:, :-1]).logits[:, length - 1 :].log_softmax(-1)
        kl = (student.exp() * (student - expert)).sum(-1)
        ((kl * mask).sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return int(n.sum())


class InTurn:
    """A TRL trainer that does one step per call: it trains in a thread that waits between two steps."""

    def __init__(self, build: Callable[[Any], Any], tokens: Callable[[], int]) -> None:
        """build: makes the trainer with this callback. tokens: completion tokens of the last step."""
        from transformers import TrainerCallback

        self.go, self.done, self.tokens = threading.Semaphore(0), threading.Semaphore(0), tokens
        self.closing, self.error = False, None
        turns = self

        class Callback(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                turns.go.acquire()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = turns.closing
                turns.done.release()

        self.trainer = build(Callback())
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()

    def _train(self) -> None:
        torch.set_num_threads(1)
        try:
            self.trainer.train()
        except BaseException as error:  # the measuring thread waits: it has to hear of it
            self.error = error
            self.done.release()

    def whole(self) -> int:
        """One step of the trainer."""
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise RuntimeError("the trainer failed") from self.error
        return self.tokens()

    def close(self) -> None:
        """Stop after one more step."""
        self.closing = True
        self.whole()
        self.thread.join()


def _arguments(rows: int, out: str) -> dict[str, Any]:
    return {
        "output_dir": out, "per_device_train_batch_size": rows, "max_steps": 10**4, "learning_rate": 1e-6,
        "lr_scheduler_type": "constant", "adam_beta2": 0.95, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "use_cpu": True, "bf16": False, "report_to": [], "logging_strategy": "no", "save_strategy": "no",
        "disable_tqdm": True, "gradient_checkpointing": False,
    }  # fmt: skip


def _prompts(prompts: int, samples: int, length: int) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": text(i, length)} for i in range(prompts * 64) for _ in range(samples)])


class Counted:
    """Counts the completion tokens that a model generates, by a wrapper of its `generate`."""

    def __init__(self, model: Any) -> None:
        self.last, inner, end = 0, model.generate, model.config.eos_token_id

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            out = inner(*args, **kwargs)
            prompt = kwargs.get("input_ids", args[0] if args else None)
            ids = out if isinstance(out, torch.Tensor) else out.sequences
            self.last = int(lengths(ids[:, prompt.shape[1] :], end).sum())  # type: ignore[union-attr]
            return out

        model.generate = wrapped

    def __call__(self) -> int:
        return self.last


def distillation(student: Any, expert: Any, prompts: int, samples: int, length: int, room: int, out: str) -> InTurn:
    """TRL's DistillationTrainer: on-policy, KL(student || teacher)."""
    from trl import DistillationConfig, DistillationTrainer

    arguments = DistillationConfig(
        **_arguments(prompts * samples, out), max_completion_length=room, temperature=1.0, beta=1.0,
        shuffle_dataset=False,
    )  # fmt: skip

    def build(callback: Any) -> Any:
        return DistillationTrainer(
            student, expert, arguments, _prompts(prompts, samples, length), processing_class=shared_tokenizer(),
            callbacks=[callback],
        )  # fmt: skip

    return InTurn(build, Counted(student))


def gkd(student: Any, expert: Any, prompts: int, samples: int, length: int, room: int, out: str) -> InTurn:
    """TRL's GKDTrainer with lambda 1: every batch is the student's."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    arguments = GKDConfig(
        **_arguments(prompts * samples, out), lmbda=1.0, beta=1.0, temperature=1.0, max_new_tokens=room,
        remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip

    def collate(rows: Sequence[dict[str, str]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor(shared_tokenizer()([r["prompt"] for r in rows])["input_ids"])
        ones = torch.ones_like(ids)
        return {
            "input_ids": ids, "attention_mask": ones, "labels": ids, "prompts": ids, "prompt_attention_mask": ones,
        }  # fmt: skip

    def build(callback: Any) -> Any:
        return GKDTrainer(
            student, expert, arguments, data_collator=collate, train_dataset=_prompts(prompts, samples, length),
            processing_class=shared_tokenizer(), callbacks=[callback],
        )  # fmt: skip

    return InTurn(build, Counted(student))


def sft(student: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], out: str) -> InTurn:
    """TRL's SFTTrainer on the completions (prompt ids, completion ids) of one update, again and again."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **_arguments(len(rows), out), max_length=None, completion_only_loss=True, packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    data = Dataset.from_list([{"input_ids": [*p, *c], "labels": [-100] * len(p) + [*c]} for p, c in rows] * 64)
    tokens = sum(len(c) for _, c in rows)

    def build(callback: Any) -> Any:
        return SFTTrainer(
            student, arguments, train_dataset=data, processing_class=shared_tokenizer(), callbacks=[callback]
        )

    return InTurn(build, lambda: tokens)


def grpo(student: Any, prompts: int, samples: int, length: int, room: int, out: str) -> InTurn:
    """TRL's GRPOTrainer without a reference model."""
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        **_arguments(prompts * samples, out), num_generations=samples, max_completion_length=room, beta=0.0,
        temperature=1.0, top_k=0, shuffle_dataset=False,
    )  # fmt: skip

    def even(completions: Sequence[str], **_: Any) -> list[float]:
        return [float(len(c) % 2 == 0) for c in completions]

    def build(callback: Any) -> Any:
        return GRPOTrainer(
            student, even, arguments, train_dataset=_prompts(prompts, 1, length), processing_class=shared_tokenizer(),
            callbacks=[callback],
        )  # fmt: skip

    return InTurn(build, Counted(student))
