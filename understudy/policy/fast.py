"""Decoding of plain decoders (the Llama kind) with few operations per token: for small models these are the cost.

Rows of one prompt share its keys and values: they are computed once, and read once per group and token. Layers are read
from the model's modules, not from a list of names; decoding.py tries on every model whether a step equals a full pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import running
from understudy.protocols import Stepper
from understudy.types import Prompt

STACKED = 2**25  # weights up to which projections are stacked into one matrix for each draw
PREFILLED = 2**13  # prompt tokens of one forward pass
GROWTH = 64  # columns by which a cache grows, at least

Linear = Callable[[Tensor], Tensor]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
Filled = tuple[list[Tensor], list[Tensor], Tensor]
"""Keys and values (P, K, S, d) per layer, and the last hidden states (P, D)."""


class Unsupported(Exception):
    """The model is not of this kind."""


class Layer(NamedTuple):
    """One block as functions."""

    norm_in: Linear
    qkv: Linear
    norm_q: Linear | None
    norm_k: Linear | None
    out: Linear
    norm_mlp: Linear
    gate_up: Linear
    act: Linear
    down: Linear


class Decoder:
    """A model's blocks as functions of its weights of this moment. Unsupported: another kind of model."""

    def __init__(self, model: Any, dtype: torch.dtype | None = None) -> None:
        """dtype: of products, where all projections are plain matrices; None = as the modules compute."""
        body, config = model.get_decoder(), model.config
        _need(_children(body) == {"embed_tokens", "layers", "norm", "rotary_emb"})
        _need(getattr(body.rotary_emb, "rope_type", "") in ("default", "linear", "llama3", "yarn"))
        kinds = set(getattr(config, "layer_types", None) or ())
        windowed = not kinds and getattr(config, "sliding_window", None)
        _need(kinds <= {"full_attention"} and not windowed)
        attention = body.layers[0].self_attn
        self.embed, self.rotary, self.norm = body.embed_tokens, body.rotary_emb, _norm(body.norm)
        self.heads, self.kv_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        self.head_dim, self.scale = int(attention.head_dim), float(attention.scaling)
        modules = [m for layer in body.layers for m in (layer.self_attn, layer.mlp)]
        plain = all(type(p) is nn.Linear for m in modules for n, p in m.named_children() if n.endswith("_proj"))
        small = sum(p.numel() for m in modules for p in m.parameters()) <= STACKED
        self.inside = not plain  # modules of an adapter choose their precision themselves
        self.layers = [_layer(block, plain, small, dtype) for block in body.layers]
        head = model.get_output_embeddings()
        self.head = _linear([head], dtype) if plain and type(head) is nn.Linear else head

    def run(self, x_BSD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """The blocks; attend(layer, q (B, H, S, d), k, v (B, K, S, d)) -> (B, H, S, d)."""
        b, s, _ = x_BSD.shape
        h, k, d = self.heads, self.kv_heads, self.head_dim
        for i, layer in enumerate(self.layers):
            running.check()
            qkv = layer.qkv(layer.norm_in(x_BSD)).view(b, s, h + 2 * k, d).transpose(1, 2)
            if layer.norm_q is None or layer.norm_k is None:
                qk = qkv[:, : h + k]
            else:
                qk = torch.cat([layer.norm_q(qkv[:, :h]), layer.norm_k(qkv[:, h : h + k])], 1)
            half = d // 2
            rotated = torch.cat([qk[..., half:], qk[..., :half]], -1)  # the sign is in `sin`
            qk = torch.addcmul(qk * cos, rotated, sin).to(qkv.dtype)
            out = attend(i, qk[:, :h], qk[:, h:], qkv[:, h + k :])
            x_BSD = x_BSD + layer.out(out.transpose(1, 2).reshape(b, s, h * d))
            gate, up = layer.gate_up(layer.norm_mlp(x_BSD)).chunk(2, -1)
            x_BSD = x_BSD + layer.down(layer.act(gate) * up)
        return x_BSD

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin with the sign of the rotation) of (..., S) positions, (..., S, d)."""
        like = torch.zeros(1, dtype=torch.float32, device=positions.device)
        cos, sin = self.rotary(like, positions.reshape(1, -1))
        half = self.head_dim // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        shape = (*positions.shape, self.head_dim)
        return cos.reshape(shape), sin.reshape(shape)


class FastSteps(Stepper):
    """One decoding pass. Rows are moved together in the cache once a quarter of them has ended."""

    @torch.no_grad()
    def __init__(
        self, decoder: Decoder, prompts: Sequence[Prompt], pad_id: int, device: torch.device,
        inference: Callable[[], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        self.decoder, self.inference = decoder, inference
        unique = {p.ids: i for i, p in enumerate({p.ids: p for p in prompts}.values())}
        prompt_B = torch.tensor([unique[p.ids] for p in prompts])
        lengths = torch.tensor([len(ids) for ids in unique])
        width = int(lengths.max())
        ids = torch.full((len(unique), width), pad_id, dtype=torch.long)
        for i, tokens in enumerate(unique):
            ids[i, width - len(tokens) :] = torch.tensor(tokens)
        before = width - lengths
        mask = None
        if bool(before.any()):
            seen = torch.arange(width) >= before[:, None]
            mask = torch.zeros(len(unique), 1, 1, width).masked_fill_(~seen[:, None, None], -torch.inf).to(device)
        positions = (torch.arange(width) - before[:, None]).clamp_min(0)
        with self._inside():
            keys, values, hidden = self._prefill(ids.to(device), positions.to(device), mask)
        self.position_B = lengths[prompt_B].to(device)
        self.angles = decoder.angles(torch.arange(width + GROWTH, device=device))
        rows = prompt_B.to(device)
        self.live: Tensor | None = None  # live row -> row of the cache; None: all rows are
        self.logits = self._head(hidden.index_select(0, rows))
        shared = len(prompts) >= 2 * len(unique) and width >= 16
        self.cache = _Shared(keys, values, mask, prompt_B) if shared else _Own(keys, values, mask, rows)

    def _inside(self) -> AbstractContextManager[None]:
        return self.inference() if self.decoder.inside else _nothing

    def _head(self, hidden_BD: Tensor) -> Tensor:
        return self.decoder.head(self.decoder.norm(hidden_BD)).float()

    def _prefill(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Filled:
        step = max(1, PREFILLED // ids.shape[1])
        slices = [slice(at, at + step) for at in range(0, len(ids), step)]
        parts = [self._prefill_part(ids[at], positions[at], None if mask is None else mask[at]) for at in slices]
        if len(parts) == 1:
            return parts[0]
        keys, values = ([torch.cat(layer) for layer in zip(*(part[i] for part in parts))] for i in (0, 1))
        return keys, values, torch.cat([part[2] for part in parts])

    def _prefill_part(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Filled:
        d, width = self.decoder, ids.shape[1]
        keys: list[Tensor] = []
        values: list[Tensor] = []
        bias: Tensor | None = None
        if mask is not None:  # a padding column sees itself: a softmax over nothing is no number
            bias = mask + torch.full((width, width), -torch.inf, device=ids.device).triu(1)
            bias.diagonal(dim1=-2, dim2=-1).zero_()

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys.append(k.contiguous())  # read at every token: not a view across heads
            values.append(v.contiguous())
            seen = None if bias is None else bias.to(q.dtype)
            return F.scaled_dot_product_attention(
                q, k, v, seen, is_causal=bias is None, scale=d.scale, enable_gqa=d.heads != d.kv_heads
            )  # fmt: skip

        cos, sin = (x.unsqueeze(1) for x in d.angles(positions))
        x = d.run(d.embed(ids), cos, sin, attend)
        return keys, values, x[:, -1]

    def next_logits(self) -> Tensor:
        return self.logits

    @torch.no_grad()
    def keep(self, rows: Tensor) -> None:
        self.logits = self.logits[rows]
        live = rows if self.live is None else self.live[rows]
        if len(live) <= 0.75 * len(self.position_B):
            self.cache.keep(live)
            self.position_B = self.position_B[live]
            self.live = None
        else:
            self.live = live

    @torch.no_grad()
    def advance(self, tokens_B: Tensor) -> None:
        d, n = self.decoder, len(self.position_B)
        if self.live is not None:
            tokens_B = tokens_B.new_zeros(n).index_copy_(0, self.live, tokens_B)
        self.cache.make_room()
        if self.cache.width + 1 > len(self.angles[0]):
            self.angles = d.angles(torch.arange(2 * (self.cache.width + 1), device=tokens_B.device))
        cos, sin = (x[self.position_B].view(n, 1, 1, -1) for x in self.angles)
        g = d.heads // d.kv_heads

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q = q.reshape(n, d.kv_heads, g, d.head_dim)  # heads of one key in the place of columns
            return self.cache.attend(i, q, k, v, d.scale).reshape(n, d.heads, 1, d.head_dim)

        with self._inside():
            x = d.run(d.embed(tokens_B).unsqueeze(1), cos, sin, attend)[:, 0]
            self.logits = self._head(x if self.live is None else x[self.live])
        self.position_B = self.position_B + 1
        self.cache.filled += 1


class _Own:
    """Every row has the prompt and its completion in one block."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], mask: Tensor | None, rows: Tensor) -> None:
        self.filled = keys[0].shape[2]
        self.keys, self.values = ([_roomy(x.index_select(0, rows)) for x in xs] for xs in (keys, values))
        self.mask = None if mask is None else _padded(mask.index_select(0, rows), self.keys[0].shape[2])

    @property
    def width(self) -> int:
        return self.filled

    def make_room(self) -> None:
        if self.filled == self.keys[0].shape[2]:
            _make_roomy(self.keys, self.values)
            self.mask = None if self.mask is None else _padded(self.mask, self.keys[0].shape[2])

    def attend(self, i: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        t = self.filled
        keys, values = self.keys[i], self.values[i]
        keys[:, :, t : t + 1] = k
        values[:, :, t : t + 1] = v
        keys, values = keys[:, :, : t + 1], values[:, :, : t + 1]
        mask = None if self.mask is None else self.mask[..., : t + 1].to(q.dtype)
        if q.device.type != "cpu" or q.dtype not in (torch.float32, torch.float64):
            return F.scaled_dot_product_attention(q, keys, values, mask, scale=scale)
        scores = (q * scale) @ keys.transpose(2, 3)  # on a CPU two products are faster for one token per row
        return (scores if mask is None else scores.add_(mask)).softmax(-1) @ values

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = ([x[rows] for x in xs] for xs in (self.keys, self.values))
        self.mask = None if self.mask is None else self.mask[rows]


class _Shared:
    """Each prompt is there once; its rows are slots of it, so all rows of a prompt read it in one product."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], mask: Tensor | None, prompt_B: Tensor) -> None:
        self.prompt_keys, self.prompt_values, self.mask, self.prompt_B = keys, values, mask, prompt_B
        self.device = keys[0].device
        shape = (len(prompt_B), keys[0].shape[1], GROWTH, keys[0].shape[3])
        self.keys, self.values = ([x.new_empty(shape) for x in xs] for xs in (keys, values))
        self.filled, self.before = 0, keys[0].shape[2]
        self._place()

    @property
    def width(self) -> int:
        return self.before + self.filled

    def _place(self) -> None:
        """Slots for the rows that are there; prompts without rows leave."""
        used, self.prompt_B = self.prompt_B.unique(return_inverse=True)
        if len(used) < len(self.prompt_keys[0]):
            at = used.to(self.device)
            self.prompt_keys = [x[at] for x in self.prompt_keys]
            self.prompt_values = [x[at] for x in self.prompt_values]
            self.mask = None if self.mask is None else self.mask[at]
        counts = torch.bincount(self.prompt_B)
        self.slots = int(counts.max())
        order = self.prompt_B.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[self.prompt_B[order]]
        slot = self.prompt_B * self.slots + rank
        exact = len(slot) == len(counts) * self.slots and bool((slot == torch.arange(len(slot))).all())
        self.slot = None if exact else slot.to(self.device)  # None: rows are the slots, in order

    def make_room(self) -> None:
        if self.filled == self.keys[0].shape[2]:
            _make_roomy(self.keys, self.values)

    def _to_slots(self, x: Tensor) -> Tensor:
        """(B, K, g, ...) of rows -> (P, K, slots * g, ...)."""
        p, (_, k, g, last) = len(self.prompt_keys[0]), x.shape
        if self.slot is not None:
            x = x.new_zeros(p * self.slots, k, g, last).index_copy_(0, self.slot, x)
        return x.view(p, self.slots, k, g, last).transpose(1, 2).reshape(p, k, self.slots * g, last)

    def _to_rows(self, x: Tensor, g: int) -> Tensor:
        p, k, _, last = x.shape
        x = x.view(p, k, self.slots, g, last).transpose(1, 2).reshape(p * self.slots, k, g, last)
        return x if self.slot is None else x[self.slot]

    def attend(self, i: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        t, g, keys, values = self.filled, q.shape[2], self.keys[i], self.values[i]
        keys[:, :, t : t + 1] = k
        values[:, :, t : t + 1] = v
        q = q * scale
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        before = (self._to_slots(q) @ self.prompt_keys[i].transpose(2, 3)).to(wide)
        if self.mask is not None:
            before = before.add_(self.mask)
        own = (q @ keys[:, :, : t + 1].transpose(2, 3)).to(wide)
        # softmax over both parts, each summed where its values are: merged by their normalisers
        top_before, top_own = before.amax(-1, keepdim=True), own.amax(-1, keepdim=True)
        before, own = before.sub_(top_before).exp_(), own.sub_(top_own).exp_()
        mixed = (before.to(v.dtype) @ self.prompt_values[i]).to(wide)
        out = self._to_rows(torch.cat([mixed, before.sum(-1, keepdim=True), top_before], -1), g)
        total_before, top_before = out[..., -2:-1], out[..., -1:]
        top = torch.maximum(top_before, top_own)
        weight_before, weight_own = (top_before - top).exp_(), (top_own - top).exp_()
        total = total_before * weight_before + own.sum(-1, keepdim=True) * weight_own
        mixed = out[..., :-2] * weight_before + (own.to(v.dtype) @ values[:, :, : t + 1]) * weight_own
        return (mixed / total).to(v.dtype)

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = ([x[rows] for x in xs] for xs in (self.keys, self.values))
        self.prompt_B = self.prompt_B[rows.cpu()]
        self._place()


class _Nothing(AbstractContextManager[None]):
    def __exit__(self, *error: object) -> None:
        return None


_nothing = _Nothing()


def _roomy(x: Tensor) -> Tensor:
    """(B, K, S, d) with more columns."""
    b, k, s, d = x.shape
    out = x.new_empty(b, k, s + max(GROWTH, s // 2), d)
    out[:, :, :s] = x
    return out


def _make_roomy(*caches: list[Tensor]) -> None:
    """In place, layer by layer: only one layer's old and new columns exist at the same time."""
    for layers in caches:
        for i, x in enumerate(layers):
            layers[i] = _roomy(x)


def _padded(mask: Tensor, width: int) -> Tensor:
    return F.pad(mask, (0, width - mask.shape[-1]))


def _need(holds: bool) -> None:
    if not holds:
        raise Unsupported


def _children(module: nn.Module) -> set[str]:
    return {name for name, child in module.named_children() if not isinstance(child, nn.Identity)}


def _layer(block: Any, plain: bool, small: bool, dtype: torch.dtype | None) -> Layer:
    _need(_children(block) == {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"})
    a, mlp = block.self_attn, block.mlp
    _need(_children(a) - {"q_norm", "k_norm"} == {"q_proj", "k_proj", "v_proj", "o_proj"})
    _need(_children(mlp) == {"gate_proj", "up_proj", "down_proj", "act_fn"})

    def joined(*modules: Any) -> Linear:
        if plain and (small or dtype is not None):
            return _linear(modules, dtype)
        return lambda x: torch.cat([m(x) for m in modules], -1)

    def single(module: Any) -> Linear:
        return _linear([module], dtype) if plain else module

    norms = [_norm(getattr(a, n)) if hasattr(a, n) else None for n in ("q_norm", "k_norm")]
    return Layer(
        _norm(block.input_layernorm), joined(a.q_proj, a.k_proj, a.v_proj), norms[0], norms[1], single(a.o_proj),
        _norm(block.post_attention_layernorm), joined(mlp.gate_proj, mlp.up_proj), mlp.act_fn, single(mlp.down_proj),
    )  # fmt: skip


def _linear(modules: Sequence[Any], dtype: torch.dtype | None) -> Linear:
    """One product for several plain layers on the same input."""
    weights, biases = [m.weight.detach() for m in modules], [m.bias for m in modules]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias: Tensor | None = None
    if any(b is not None for b in biases):
        bias = torch.cat([w.new_zeros(len(w)) if b is None else b.detach() for w, b in zip(weights, biases)])
    if dtype is None or dtype == weight.dtype:
        return lambda x: F.linear(x, weight, bias)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return lambda x: F.linear(x.to(dtype), weight, bias)


def _norm(module: Any) -> Linear:
    weight, eps = module.weight.detach(), float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))
    _need(weight.dim() == 1 and eps > 0 and getattr(module, "bias", None) is None)
    shape = tuple(weight.shape)
    if weight.dtype in (torch.float32, torch.float64):
        return lambda x: F.rms_norm(x, shape, weight, eps)
    return lambda x: F.rms_norm(x.float(), shape, None, eps).to(x.dtype) * weight
