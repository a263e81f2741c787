"""A Hugging Face causal language model as a policy: steps for sampling, hidden states for training, scores.

Layout of every padded input: prompts on the left side of the seam (padded on the left), completions on the right of it
(padded on the right). Position ids count real tokens only, so padding never shifts a position.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.checkpoint import load_tensors
from understudy.config import Spec, build, parse_spec
from understudy.errors import UserError
from understudy.run_files import is_run
from understudy.types import Prompt, Rollout
from understudy.urls import names_server, pieces

SCORE_ROWS = 256  # rows of one no-gradient forward pass


@dataclass(frozen=True)
class Scratch:
    """Shape of a model made from scratch."""

    width: int = 64
    """Hidden size."""
    layers: int = 2
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    context: int = 256
    """Longest input in tokens."""
    arch: str = "llama"
    """llama, qwen2 or qwen3."""
    init: float = 0.05
    """Standard deviation of the initial weights. The libraries' 0.02 is meant for widths in the thousands."""


@dataclass(frozen=True)
class Padded:
    """Teacher-forcing inputs of some rollouts, and where their completion tokens are."""

    input_ids_BS: Tensor
    attention_mask_BS: Tensor
    position_ids_BS: Tensor
    completion_mask_BT: Tensor
    action_ids_N: Tensor
    row_N: Tensor


def pad(rollouts: Sequence[Rollout], pad_id: int, device: torch.device | str = "cpu") -> Padded:
    """Left-padded prompts and right-padded completions; masks from lengths alone."""
    b = len(rollouts)
    before = max(len(r.prompt.ids) for r in rollouts)
    after = max(len(r.ids) for r in rollouts)
    ids = torch.full((b, before + after), pad_id, dtype=torch.long)
    mask = torch.zeros((b, before + after), dtype=torch.bool)
    for i, r in enumerate(rollouts):
        start = before - len(r.prompt.ids)
        stop = before + len(r.ids)
        ids[i, start:stop] = torch.tensor(r.prompt.ids + r.ids)
        mask[i, start:stop] = True
    completion = mask[:, before:]
    rows, columns = completion.nonzero(as_tuple=True)
    return Padded(
        ids.to(device),
        mask.long().to(device),
        (mask.long().cumsum(1) - 1).clamp_min(0).to(device),
        completion.to(device),
        ids[rows, before + columns].to(device),
        rows.to(device),
    )


class Policy:
    """A causal LM with its tokenizer. Training code reads `hidden` and `head`; everything else is no-gradient."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.device = next(model.parameters()).device
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        ends = getattr(model.generation_config, "eos_token_id", None)
        if ends is None or ends == []:  # 0 is a token id like any other
            ends = tokenizer.eos_token_id
        if ends is None:
            raise UserError("student", name, "has no end token: set eos_token in its tokenizer")
        self.end_ids: tuple[int, ...] = tuple(sorted({ends} if isinstance(ends, int) else set(ends)))
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_ids[0]
        self.context: int = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        self._body_is_enough = self._probe_head()

    # -- text ---------------------------------------------------------------------------------------------------

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Prompts with this tokenizer's ids; an empty prompt is refused."""
        if not prompts:
            return []
        ids = self.tokenizer([p.text for p in prompts], add_special_tokens=True, padding=False)["input_ids"]
        out = [p.encoded(i) for p, i in zip(prompts, ids)]
        for p in out:
            if not p.ids:
                raise UserError("prompt", p.key, "encodes to no tokens: give it some text")
        return out

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self.tokenizer.batch_decode([list(i) for i in ids], skip_special_tokens=True)

    def check_room(self, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
        longest = max(prompts, key=lambda p: len(p.ids))
        if self.context and len(longest.ids) + max_new_tokens > self.context:
            raise UserError(
                "max_new_tokens",
                max_new_tokens,
                f"prompt {longest.key} has {len(longest.ids)} tokens and the context of {self.name} is {self.context}: "
                "shorten the prompts or the completions",
            )

    # -- sampling -----------------------------------------------------------------------------------------------

    def start(self, prompts: Sequence[Prompt]) -> CachedSteps:
        return CachedSteps(self, prompts)

    # -- scores -------------------------------------------------------------------------------------------------

    def hidden(self, padded: Any) -> Tensor:
        """(N, D) states that predict each completion token, or (N, V) logits where the head is not a plain matrix.

        `padded` is anything with the input fields of Padded (a Batch too).
        """
        inputs = {
            "input_ids": padded.input_ids_BS,
            "attention_mask": padded.attention_mask_BS,
            "position_ids": padded.position_ids_BS,
            "use_cache": False,
        }
        t = padded.completion_mask_BT.shape[1]
        if self._body_is_enough:
            states = self.model.get_decoder()(**inputs).last_hidden_state[:, -t - 1 : -1]
        else:
            states = self.model(**inputs, logits_to_keep=t + 1).logits[:, :-1]
        return states[padded.completion_mask_BT]

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """Maps what `hidden` returns to logits."""
        return self.model.get_output_embeddings() if self._body_is_enough else _identity

    @torch.no_grad()
    def _logits(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[list[int], Padded, Tensor]]:
        """(which rollouts, their padding, logits_NV) in chunks of rows of similar length."""
        order = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].ids))
        for at in range(0, len(order), SCORE_ROWS):
            rows = order[at : at + SCORE_ROWS]
            padded = pad([rollouts[i] for i in rows], self.pad_id, self.device)
            with _evaluating(self.model):
                logits = self.head(self.hidden(padded)).float()
            yield rows, padded, logits

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T,) log-probs of its tokens, float32 nats."""
        out: list[Any] = [None] * len(rollouts)
        for rows, padded, logits in self._logits(rollouts):
            logp = logits.gather(-1, padded.action_ids_N[:, None])[:, 0] - logits.logsumexp(-1)
            for i, piece in zip(rows, logp.split([len(rollouts[i].ids) for i in rows])):
                out[i] = piece
        return out

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """Per rollout (T, V) log-probs, float32 nats."""
        out: list[Any] = [None] * len(rollouts)
        for rows, _, logits in self._logits(rollouts):
            for i, piece in zip(rows, logits.log_softmax(-1).split([len(rollouts[i].ids) for i in rows])):
                out[i] = piece
        return out

    # -- files --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """A directory that AutoModelForCausalLM.from_pretrained loads; safetensors only."""
        with _quiet():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def load_weights(self, folder: Path) -> None:
        """Take the weights of a checkpoint in place: whoever holds this policy or its parameters sees them."""
        state: dict[str, Tensor] = {}
        for file in sorted(folder.glob("model*.safetensors")):
            state |= load_tensors(file)
        parameters = dict(self.model.named_parameters())
        own = parameters | dict(self.model.named_buffers())
        odd = [n for n, t in state.items() if n not in own or own[n].shape != t.shape]
        odd += sorted(set(parameters) - set(state))
        if odd:
            raise UserError(
                "checkpoint", folder, f"does not fit the student: {odd[0]} differs; use the run's own model"
            )
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "vocabulary": self.vocabulary,
            "end_ids": list(self.end_ids),
            "tokenizer_sha": tokenizer_sha(self.tokenizer),
        }

    @torch.no_grad()
    def _probe_head(self) -> bool:
        """Whether logits are exactly head(last hidden state); some models scale or cap them.

        Bit for bit: a soft cap is nearly the identity on the small logits of an untrained model.
        """
        ids = torch.tensor([[self.end_ids[0], self.pad_id, 1]], device=self.device) % self.vocabulary
        with _evaluating(self.model):
            full = self.model(input_ids=ids, use_cache=False).logits
            body = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            return torch.equal(full, self.model.get_output_embeddings()(body))


class CachedSteps:
    """One decoding pass with a key-value cache. Rows that ended are dropped once a quarter of the batch is dead."""

    @torch.no_grad()
    def __init__(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        from transformers import DynamicCache

        self.model, device = policy.model, policy.device
        longest = max(len(p.ids) for p in prompts)
        ids = torch.full((len(prompts), longest), policy.pad_id, dtype=torch.long)
        self.mask = torch.zeros((len(prompts), longest), dtype=torch.long)
        for i, p in enumerate(prompts):
            ids[i, longest - len(p.ids) :] = torch.tensor(p.ids)
            self.mask[i, longest - len(p.ids) :] = 1
        self.mask = self.mask.to(device)
        positions = (self.mask.cumsum(1) - 1).clamp_min(0)
        self.next_position = positions[:, -1:] + 1
        self.live = torch.arange(len(prompts), device=device)  # live row -> row of the cache
        self.cache = DynamicCache(config=policy.model.config)
        self.logits = self._forward(ids.to(device), positions)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        with _evaluating(self.model):
            return (
                self.model(
                    input_ids=ids,
                    attention_mask=self.mask,
                    position_ids=positions,
                    past_key_values=self.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )

    @torch.no_grad()
    def next_logp(self) -> Tensor:
        """(B_live, V) log-probs of each live row's next token."""
        return self.logits[self.live].log_softmax(-1)

    @torch.no_grad()
    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        rows = self.mask.shape[0]
        ids = torch.zeros((rows, 1), dtype=torch.long, device=self.mask.device)
        ids[self.live, 0] = tokens_B
        self.live = self.live[keep_B]
        if len(self.live) == 0:
            return
        if len(self.live) <= 0.75 * rows:
            self.cache.batch_select_indices(self.live)
            self.mask, self.next_position, ids = (x[self.live] for x in (self.mask, self.next_position, ids))
            self.live = torch.arange(len(self.live), device=self.live.device)
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], 1)
        self.logits = self._forward(ids, self.next_position)
        self.next_position = self.next_position + 1


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Hugging Face's own progress bars and advice: ours say what matters."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def tokenizer_sha(tokenizer: Any) -> str:
    """Fingerprint of what matters for scores: which id each token has, and what text becomes."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    probe = tokenizer("3+5=8 ok\nThe 12 quick foxes.  é✓", add_special_tokens=False)["input_ids"]
    return hashlib.sha256((vocabulary + str(probe)).encode()).hexdigest()[:16]


def resolve_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        # something must come back: `meta` takes tensors and computes nothing
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError("device", name, f"not available here: {str(error).splitlines()[0]}") from None
    return device


def make_scratch(spec: Spec, tokenizer: Any, seed: int, field: str = "student") -> Policy:
    """A new tiny model with random weights, a function of the spec and the seed alone."""
    shape = build(Scratch, spec.args, field)
    from transformers import AutoConfig, AutoModelForCausalLM

    if shape.arch not in ("llama", "qwen2", "qwen3"):
        raise UserError(f"{field}.arch", shape.arch, "one of llama, qwen2, qwen3")
    for name in ("width", "layers", "heads", "context"):
        if getattr(shape, name) < 1:
            raise UserError(f"{field}.{name}", getattr(shape, name), "must be at least 1")
    if not 0 <= shape.init <= 1:
        raise UserError(f"{field}.init", shape.init, "must lie in [0, 1]")
    if shape.width % shape.heads or (shape.width // shape.heads) % 2:
        raise UserError(f"{field}.width", shape.width, f"must be an even multiple of heads={shape.heads}")
    extra = {"head_dim": shape.width // shape.heads} if shape.arch == "qwen3" else {}
    config = AutoConfig.for_model(
        shape.arch,
        hidden_size=shape.width,
        intermediate_size=8 * round(shape.width / 3),  # 8/3: as many weights as a plain MLP of ratio 4
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        vocab_size=len(tokenizer),
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        initializer_range=shape.init,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **extra,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Policy(model, tokenizer, spec.text)


def load_policy(
    spec_text: str,
    field: str,
    tokenizer: Any = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Policy:
    """A policy from a model directory, a hub id, or `scratch:...` (which needs the task's tokenizer)."""
    if names_server(spec_text):
        pieces(spec_text, field)  # a password in it is refused without being repeated
        raise UserError(field, spec_text, "is a server: a model directory or hub id is needed here")
    spec = parse_spec(spec_text, field) if spec_text.startswith("scratch") else None
    if spec is not None and spec.name == "scratch":
        policy = make_scratch(spec, tokenizer, seed, field)
        policy.model.to(getattr(torch, dtype))
    else:
        policy = _load_pretrained(spec_text, field, dtype, trust_remote_code)
    policy.model.to(resolve_device(device))
    policy.device = next(policy.model.parameters()).device
    return policy


def _load_pretrained(path: str, field: str, dtype: str, trust_remote_code: bool) -> Policy:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(path)
    if os.path.isfile(folder / "final" / "config.json"):  # a run directory stands for its final model
        folder = folder / "final"
    elif is_run(folder):
        raise UserError(
            field, path, "is a run that has not finished: resume it, or give one of its checkpoints"
        )
    is_folder = os.path.isdir(
        folder
    )  # os.path: a name that is too long for the system is no folder, not an error
    if is_folder and not (folder / "config.json").is_file():
        raise UserError(
            field, path, "is not a model: it has no config.json (a run directory needs its final/ folder)"
        )
    if not is_folder and (os.path.exists(folder) or path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise UserError(field, path, "is not a model: no such folder, and not a hub id (OWNER/NAME)")
    name = str(folder) if is_folder else path
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
            model, told = AutoModelForCausalLM.from_pretrained(
                name, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # transformers raises many kinds here, all meaning: not a model we can load
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(field, path, f"cannot be loaded as a causal LM in safetensors ({reason})") from None
    if told["missing_keys"]:  # transformers would go on with random numbers in their place
        missing = sorted(told["missing_keys"])
        raise UserError(
            field, path, f"lacks {len(missing)} of its weights ({missing[0]}, ...): copy the whole model"
        )
    return Policy(model, tokenizer, path)


def check_same_language(student: Any, expert: Any, expert_name: str) -> None:
    """Refuse an expert whose scores of the student's tokens would be nonsense (DESIGN.md, trap 7)."""
    ours, theirs = student.tokenizer, expert.tokenizer
    if len(ours) != len(theirs):
        raise UserError(
            "expert",
            expert_name,
            f"its tokenizer has {len(theirs)} tokens, the student's {len(ours)}: use the same",
        )
    if ours is not theirs and tokenizer_sha(ours) != tokenizer_sha(theirs):
        raise UserError(
            "expert", expert_name, "its tokenizer gives other ids than the student's: use the same one"
        )
    if getattr(expert, "vocabulary", student.vocabulary) != student.vocabulary:
        raise UserError(
            "expert",
            expert_name,
            f"its vocabulary (padded) is {expert.vocabulary}, the student's {student.vocabulary}: resize one of them "
            f"(a programmatic expert takes vocabulary={student.vocabulary})",
        )
    if tuple(getattr(expert, "end_ids", student.end_ids)) != student.end_ids:
        raise UserError(
            "expert",
            expert_name,
            f"its end tokens {list(expert.end_ids)} are not the student's {list(student.end_ids)} "
            "(a base next to an instruct model?): align generation_config.eos_token_id",
        )
