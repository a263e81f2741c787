"""A Hugging Face causal language model as a policy: steps for sampling, hidden states for training, scores."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from understudy import running
from understudy.errors import UserError
from understudy.methods.kernel import Entropies, Losses, chunk_of, chunks, token_losses
from understudy.methods.losses import Objective
from understudy.policy import decoding, fitness, stored, tokens
from understudy.policy.lora import Adapter, attach
from understudy.policy.padding import Padded, pad, split
from understudy.policy.signals import Head, HiddenSignal
from understudy.policy.stored import quiet
from understudy.protocols import CAPABILITIES, Stepper
from understudy.types import Batch, Prompt, Rollout

SCORE_ROWS = 256  # at most so many rows per forward pass without gradients
SCORE_TOKENS, SCORE_TOKENS_CPU = 2**16, 2**12  # at most so many padded tokens in it, unless one row has more


class Sharding(Protocol):
    """What a policy needs of weights that are distributed over several processes (sharding.Shards)."""

    first: bool
    """Whether this is the process that gets whole weights."""

    def gathered_weights(self) -> contextlib.AbstractContextManager[None]: ...

    def losses(
        self, batch: Batch, goal: Objective, scale_N: Tensor, chunk: int, entropies: Entropies | None
    ) -> Losses: ...

    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def like(self, own: Tensor, tensor: Tensor) -> Tensor: ...


class Policy:
    """A causal LM with its tokenizer. Training code reads `losses`; everything else is no-gradient.

    adapter: low-rank weights beside the model's own (lora.py), or None. mixed: matrix products in bfloat16, weights
    in float32. shards: how the weights are distributed over several processes (sharding.py), or None.
    """

    capabilities = CAPABILITIES
    adapter: Adapter | None = None
    mixed: bool = False
    shards: Sharding | None = None
    _adapted: bool = True  # False: the same weights without the adapter

    def __init__(self, model: Any, tokenizer: Any, name: str, field: str = "student") -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.architecture: Any = type(model)  # its class before the weights are distributed
        self.device = next(model.parameters()).device
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        self.sampled = self.vocabulary  # tokens that it samples: fewer where its padding is wider than the student's
        ends = getattr(model.generation_config, "eos_token_id", None)
        self.end_ids: tuple[int, ...] = tokens.end_ids(ends, tokenizer, name, self.vocabulary, field)
        pad = tokenizer.pad_token_id  # padding is never read: any token that has a row will do
        self.pad_id: int = pad if pad is not None and pad < self.vocabulary else self.end_ids[0]
        self.context: int = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        self.body_is_enough = self._probe_head()
        _stop_between_layers(model)

    # -- text ---------------------------------------------------------------------------------------------------

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Prompts with this tokenizer's ids, by its chat template where a prompt has turns, never with two BOS.

        UserError: an empty prompt, no chat template, or text that the tokenizer cannot write.
        """
        if not prompts:
            return []
        out = tokens.encoded(self.tokenizer, prompts, self.name)
        for p in out:
            tokens.check_rows(self.tokenizer, p.ids, self.vocabulary, p, self.name)
        return out

    def continuations(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each text after its (encoded) prompt; no end token."""
        out = [tokens.continuation(self.tokenizer, p, t, self.name) for p, t in zip(prompts, texts)]
        for p, ids in zip(prompts, out):
            tokens.check_rows(self.tokenizer, ids, self.vocabulary, p, self.name)
        return out

    def add_stop_tokens(self, stops: Sequence[str]) -> Policy:
        """Let stop texts that are one token of this tokenizer end a completion too."""
        known = (tokens.one_token(self.tokenizer, stop) for stop in stops)
        extra = {i for i in known if i is not None and i < self.vocabulary}
        self.end_ids = tuple(sorted({*self.end_ids, *extra}))
        return self

    def too_long(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Prompt]:
        """The encoded ones that leave no room for so many new tokens; only those that might are encoded."""
        if not self.context:
            return []
        room = self.context - max_new_tokens
        most = tokens.at_most(self.tokenizer, prompts, self.name)
        return [p for p in self.encode([p for p, n in zip(prompts, most) if n > room]) if len(p.ids) > room]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts of completions, without the tokens that end them; other special tokens are kept."""
        return tokens.shown(self.tokenizer, self.end_ids, ids)

    def check_room(self, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
        longest = max(prompts, key=lambda p: len(p.ids))
        if self.context and len(longest.ids) + max_new_tokens > self.context:
            hint = (
                f"prompt {longest.key} has {len(longest.ids)} tokens and the context of {self.name} is {self.context}: "
            )
            raise UserError("max_new_tokens", max_new_tokens, hint + "shorten the prompts or the completions")

    # -- sampling -----------------------------------------------------------------------------------------------

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        """One row per prompt; equal prompts are computed once."""
        steps = decoding.start(self.model, prompts, self.pad_id, self.inference, self.mixed, self.adapter is not None)
        return steps if self.sampled == self.vocabulary else decoding.Cut(steps, self.sampled)

    # -- scores -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Around every forward pass without gradients: no dropout, this policy's adapter state and precision."""
        aside = self.adapter.aside() if self.adapter and not self._adapted else contextlib.nullcontext()
        with _evaluating(self.model), aside, self.precision():
            yield

    def precision(self) -> Any:
        if not self.mixed:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def reference(self) -> Policy:
        """The model without its adapter, frozen: the same weights in memory, no second copy."""
        if self.adapter is None:
            raise ValueError("no adapter: the model itself is trained, so its reference must be a copy")
        other = copy.copy(self)
        other._adapted = False
        return other

    def gathered_weights(self) -> Any:
        """Around everything that samples or scores: sharded weights are whole there (Shards.gathered_weights)."""
        return contextlib.nullcontext() if self.shards is None else self.shards.gathered_weights()

    def trained(self) -> dict[str, Tensor]:
        """Name -> parameter that the optimizer updates: all of them, or the adapter's."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def adapt(self, rank: int, alpha: float, dropout: float, targets: str, seed: int) -> None:
        """Train only a new adapter from now on (lora.py). UserError: no such layers."""
        self.adapter = attach(self.model, self.name, rank, alpha, dropout, targets, seed)
        self.model.eval()

    def save_memory(self) -> None:
        """Compute the activations of a block again in the backward pass instead of keeping them."""
        try:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise UserError("activation_checkpointing", True, f"{self.name} cannot: {error}") from None

    def losses(
        self, batch: Batch, goal: Objective, scale_N: Tensor, chunk: int = 0, entropies: Entropies | None = None
    ) -> Losses:
        """The losses of a batch, see kernel.token_losses."""
        if self.shards is not None:
            return self.shards.losses(batch, goal, scale_N, chunk, entropies)
        return self.local_losses(batch, goal, scale_N, chunk, entropies)

    def local_losses(
        self, batch: Batch, goal: Objective, scale_N: Tensor, chunk: int = 0, entropies: Entropies | None = None
    ) -> Losses:
        """`losses` with the weights of this process."""
        with self.precision():
            return token_losses(self.hidden(batch), self.head, batch, goal, scale_N, chunk, entropies)

    def hidden(self, padded: Padded | Batch) -> Tensor:
        """(N, D) states that predict each completion token, or (N, V) logits where the head is not a plain matrix."""
        inputs: dict[str, Any] = {"input_ids": padded.input_ids_BS, "use_cache": False}
        if padded.attention_mask is not None:  # else causal, and the model counts positions itself: not all from 0
            inputs |= {"attention_mask": padded.attention_mask, "position_ids": padded.position_ids_BS}
        if self.body_is_enough:
            return self.model.get_decoder()(**inputs).last_hidden_state.flatten(0, 1)[padded.place_N]
        width = padded.input_ids_BS.shape[1]
        first = int((padded.place_N % width).min())
        logits = self.model(**inputs, logits_to_keep=width - first).logits
        first = width - logits.shape[1]  # there are models that keep all
        place_N = padded.place_N - (padded.place_N // width + 1) * first
        return logits.flatten(0, 1)[place_N]

    @property
    def head(self) -> Head:
        """Maps what `hidden` returns to logits."""
        return self.model.get_output_embeddings() if self.body_is_enough else _identity

    @cached_property
    def packs(self) -> bool:
        """Whether completions of one prompt may share a row (padding.py): tried once, on a few tokens."""
        return fitness.packs(self)

    @torch.no_grad()
    def signal(self, packs: Sequence[Sequence[Rollout]]) -> HiddenSignal:
        """What this model says at the completion tokens of one batch, pack by pack (padding.split)."""
        with self.inference():
            hidden_ND = self.hidden(pad(packs, self.pad_id, self.device))
        return HiddenSignal(hidden_ND, self.head, self.inference)

    def signals(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[list[int], HiddenSignal]]:
        """(which rollouts, what this model says at their completion tokens) in batches of similar length."""
        tokens = SCORE_TOKENS if self.device.type != "cpu" else SCORE_TOKENS_CPU
        for packs in split(range(len(rollouts)), rollouts.__getitem__, SCORE_ROWS, tokens, self.packs):
            yield (
                [i for pack in packs for i in pack], self.signal([[rollouts[i] for i in pack] for pack in packs])
            )  # fmt: skip

    def _each(
        self, rollouts: Sequence[Rollout], function: Callable[[HiddenSignal, Tensor, slice], Tensor]
    ) -> list[Tensor]:
        """function(signal, ids_n of these tokens, slice), per rollout."""
        out: list[Any] = [None] * len(rollouts)
        size = chunk_of(self.vocabulary, self.device)
        for rows, signal in self.signals(rollouts):
            ids_N = torch.tensor([i for row in rows for i in rollouts[row].ids], device=self.device)
            pieces = [function(signal, ids_N[at], at) for at in chunks(len(ids_N), size)]
            for row, piece in zip(rows, torch.cat(pieces).split([len(rollouts[row].ids) for row in rows])):
                out[row] = piece
        return out

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T,) log-probs of its tokens, float32 nats."""

        def taken(signal: HiddenSignal, ids_n: Tensor, at: slice) -> Tensor:
            return signal.at(ids_n[:, None], at)[:, 0].float()

        return self._each(rollouts, taken)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T, V) log-probs, float32 nats: for a few rollouts, everything else reads `signals`."""
        return self._each(rollouts, lambda signal, ids_n, at: signal.table(at).float().clone())

    # -- files --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Every weight, whole. Sharded: all processes must call this; only the first one gets them."""
        return self.model.state_dict() if self.shards is None else self.shards.whole(self.model.state_dict())

    def save(self, folder: Path) -> None:
        """A directory that AutoModelForCausalLM.from_pretrained loads; safetensors only.

        An adapter is merged into it, and also written alone to adapter/ (beside config.json, transformers would
        apply it a second time).
        """
        whole: dict[str, Any] = {}
        if self.shards is not None or self.adapter is not None:
            state = self.state()
            if self.shards is not None and not self.shards.first:
                return
            if self.adapter is not None:
                self.adapter.save(folder / "adapter", state)
                state = self.adapter.merged(state)
            whole["state_dict"] = state
        with quiet():
            self.model.save_pretrained(folder, **whole)
            self.tokenizer.save_pretrained(folder)

    def save_trained(self, folder: Path) -> None:
        """What a checkpoint needs: the adapter alone if there is one, else the model."""
        if self.adapter is None:
            self.save(folder)
            return
        self.adapter.save(folder, self.state())
        self.tokenizer.save_pretrained(folder)

    def load_weights(self, folder: Path) -> None:
        """Copy the weights of a checkpoint into the parameters, in place."""
        named = dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers())
        if self.adapter is not None:
            wanted, state = self.trained(), self.adapter.load(folder)
            target: Mapping[str, Tensor] = wanted
        else:
            wanted, target = dict(self.model.named_parameters()), named
            state = stored.read(folder, self.architecture, named, wanted)
        loaded = {id(target[n]) for n in state if n in target}
        odd = [n for n, t in state.items() if n not in target or target[n].shape != t.shape]
        odd += sorted(n for n, p in wanted.items() if id(p) not in loaded)  # a tied weight is in a file once
        if odd:
            hint = f"does not fit the student: {odd[0]} differs; use the run's own model"
            raise UserError("checkpoint", folder, hint)
        with torch.no_grad():
            for name, tensor in state.items():
                target[name].copy_(tensor if self.shards is None else self.shards.like(target[name], tensor))

    def describe(self) -> dict[str, Any]:
        """Facts for a run's provenance."""
        facts = {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "vocabulary": self.vocabulary,
            "end_ids": list(self.end_ids),
            "tokenizer_sha": tokenizer_sha(self.tokenizer),
        }
        if self.adapter is not None:
            facts["trained_parameters"] = sum(p.numel() for p in self.trained().values())
        return facts

    @torch.no_grad()
    def _probe_head(self) -> bool:
        """Whether logits are exactly head(last hidden state); some models scale or cap them.

        Bit for bit: a soft cap is nearly the identity on the small logits of an untrained model.
        """
        ids = torch.tensor([[self.end_ids[0], self.pad_id, 1]], device=self.device) % self.vocabulary
        with _evaluating(self.model):
            full = self.model(input_ids=ids, use_cache=False).logits
            try:
                body = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
                return torch.equal(full, self.model.get_output_embeddings()(body))
            except (RuntimeError, TypeError, AttributeError, ValueError):  # some classes name another module there
                return False


def _stop_between_layers(model: Any) -> None:
    """Let a forward and a backward pass end between two blocks of the model when the process is to stop.

    One pass of a large micro-batch through a large model can take minutes.
    """
    blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=_size, default=())
    for block in blocks:
        block.register_forward_pre_hook(_before_block)
        block.register_forward_hook(_after_block)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _before_block(module: nn.Module, inputs: Any) -> None:
    running.check()


def _after_block(module: nn.Module, inputs: Any, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if isinstance(hidden, Tensor) and hidden.requires_grad:
        hidden.register_hook(_in_backward)


def _in_backward(grad: Tensor) -> None:
    running.check()


def _identity(x: Tensor) -> Tensor:
    return x


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    if not model.training:  # switching visits every module: not at every decoding step
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def tokenizer_sha(tokenizer: Any) -> str:
    """Fingerprint of what matters for scores: which id each token has, and what text becomes."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    probe = tokenizer("3+5=8 ok\nThe 12 quick foxes.  é✓", add_special_tokens=False)["input_ids"]
    return hashlib.sha256((vocabulary + str(probe)).encode()).hexdigest()[:16]
