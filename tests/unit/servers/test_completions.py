"""The completions client: the requests that it sends, and that it refuses every wrong answer.

The stub stands in for vLLM; its answers are compared with a recorded answer of vLLM.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_server import Stub

from understudy.errors import UserError
from understudy.experts.entries import TopSignal
from understudy.experts.server.check import preflight
from understudy.experts.server.expert import ServerExpert
from understudy.methods import divergences
from understudy.methods.kernel import evaluate
from understudy.methods.losses import Objective
from understudy.policy import Policy, load_policy
from understudy.protocols import TableSignal
from understudy.servers.config import parse_server
from understudy.servers.http import BadAnswer
from understudy.servers.responses import Tokens, read_samples, read_scores
from understudy.tasks import load_task
from understudy.types import Batch, Prompt, Rollout

RECORDED = Path(__file__).parent / "data" / "vllm_completion.json"


@pytest.fixture(scope="module")
def policy(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "expert", device="cpu")


@pytest.fixture
def stub(policy: Policy) -> Iterator[Stub]:
    with Stub(policy).running() as server:
        yield server


def expert(stub: Stub, policy: Policy, options: str = "") -> ServerExpert:
    return ServerExpert(parse_server(f"server:url={stub.url},wait=0.01,timeout=5{options}", "expert"), policy)


def prompts(policy: Policy, n: int = 4) -> list[Prompt]:
    return policy.encode(load_task("countdown").prompts("train", n, 0))


def shape(value: Any) -> Any:
    """The names and types of a JSON value, without its numbers; what may be null counts as anything."""
    if isinstance(value, dict):
        if value and all(k.isdecimal() or k.startswith("token_id:") for k in value):
            return ["by token", shape(next(iter(value.values())))]
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(next((v for v in value if v is not None), None))]
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def test_the_stub_answers_like_vllm(stub: Stub, policy: Policy) -> None:
    """Catches a stub whose answers differ from those of vLLM."""
    real = json.loads(RECORDED.read_text())
    sent = {
        "model": "tiny", "prompt": [[5, 6, 7, 8]], "max_tokens": 4, "n": 2, "seed": 1, "temperature": 1.0,
        "logprobs": 0, "prompt_logprobs": 2, "return_token_ids": True, "return_tokens_as_token_ids": True,
        "top_p": 1.0, "top_k": 0,
    }  # fmt: skip
    status, answer = stub.completion(sent)
    assert status == 200
    stubbed, recorded = shape(answer)["choices"][0], shape(real)["choices"][0]
    for name, kind in stubbed.items():
        assert name in recorded
        if kind != "NoneType" and recorded[name] != "NoneType":
            assert kind == recorded[name], name
    assert set(answer) - {"service_tier"} <= set(real) | {"usage"}


def test_a_recorded_answer_of_vllm_is_read() -> None:
    """Catches a reader that can read only the stub."""
    real = json.loads(RECORDED.read_text())
    prompt = real["choices"][0]["prompt_token_ids"]
    drawn = read_samples(real, prompt, 2, 4, [1], 262, "tiny")
    assert [list(d.ids) for d in drawn] == [c["token_ids"] for c in real["choices"]]
    assert all(math.isfinite(x) for d in drawn for x in d.logp)
    one = copy.deepcopy(real)
    one["choices"] = one["choices"][:1]
    (scores,) = read_scores(one, [Tokens(tuple(prompt[:3]), tuple(prompt[3:]))], 2, "tiny", 262)
    rows = real["choices"][0]["prompt_logprobs"]
    assert list(scores.logp) == [rows[t][str(prompt[t])]["logprob"] for t in range(3, len(prompt))]
    assert all(len(ids) == 2 and logp[0] >= logp[1] for ids, logp in zip(scores.top_ids, scores.top_logp))


def test_scores_and_top_k_are_the_models(stub: Stub, policy: Policy) -> None:
    """Catches shifted positions, prompt tokens counted as completion, mixed-up rows, and a top-k without its tail."""
    e = expert(stub, policy, ",rows=3,concurrency=4")
    rollouts = e.sample(prompts(policy, 6), 2, 0, 12)
    for a, b in zip(e.score(rollouts), policy.score(rollouts)):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    supervision = e.supervise(rollouts, 5)
    for i, whole in enumerate(policy.distribution(rollouts)):
        ids, logp = supervision.signal([[i]]).top_k(5, slice(0, len(whole)))
        assert ids.sort(-1).values.tolist() == whole.topk(5).indices.sort(-1).values.tolist()
        torch.testing.assert_close(divergences.with_tail(logp), divergences.bucketed(whole, ids), atol=1e-3, rtol=0)


def test_samples_are_exact(stub: Stub, policy: Policy) -> None:
    """Catches ids that went through text, recorded log-probs of another distribution, the server's own sampling
    defaults (temperature 0.1, top-k 2 here), a lost or invented end token, and samples that depend on their batch."""
    e = expert(stub, policy)
    batch = prompts(policy, 5)
    rollouts = e.sample(batch, 3, 7, 10)
    assert [(r.prompt.key, r.sample) for r in rollouts] == [(p.key, s) for p in batch for s in range(3)]
    for r, expected in zip(rollouts, policy.score(rollouts)):
        torch.testing.assert_close(torch.tensor(r.behavior_logp), expected, atol=1e-4, rtol=0)
        assert r.ended == (r.ids[-1] in policy.end_ids)
        assert r.ended or len(r.ids) == 10
        assert r.text == policy.decode([r.ids])[0]
    alone = e.sample([batch[3]], 3, 7, 10)
    assert [r.ids for r in alone] == [r.ids for r in rollouts[9:12]]
    assert len({r.ids for r in rollouts}) > 10, "the samples of a prompt share their seed"
    greedy = e.greedy(batch, 10)
    for r, table in zip(greedy, policy.distribution(greedy)):
        assert list(r.ids) == table.argmax(-1).tolist()
    body = next(b for path, b in stub.bodies if path == "/v1/completions" and b.get("n") == 3)
    assert {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
            "ignore_eos", "stop_token_ids", "seed"} <= set(body)  # fmt: skip


def test_a_transformed_sample_has_no_recorded_log_prob(stub: Stub, policy: Policy) -> None:
    """Catches untempered log-probs recorded as those of the sampling distribution."""
    e = ServerExpert(parse_server(stub.url, "expert"), policy, temperature=0.5)
    (r,) = e.sample(prompts(policy, 1), 1, 0, 6)
    assert all(math.isnan(x) for x in r.behavior_logp)


def test_preflight_measures_and_agrees(stub: Stub, policy: Policy) -> None:
    report = preflight(expert(stub, policy), prompts(policy), policy)
    assert report["noise"]["again_mean"] < 1e-5
    assert report["noise"]["local_mean"] < 1e-5
    assert report["tokens_compared"] > 30


def test_preflight_stops_a_noisy_server(stub: Stub, policy: Policy) -> None:
    """Catches training on scores whose noise exceeds what the user allows."""
    stub.noise = 1.0
    with pytest.raises(UserError, match="differently when asked twice"):
        preflight(expert(stub, policy), prompts(policy))
    assert preflight(expert(stub, policy, ",noise=5"), prompts(policy))["noise"]["again_mean"] > 0.1


def test_preflight_stops_other_weights(stub: Stub, policy: Policy, models: dict[str, Path]) -> None:
    other = load_policy(str(models["qwen2"]), "expert", device="cpu")
    with pytest.raises(UserError, match="differently than the local copy"):
        preflight(expert(stub, policy), prompts(policy), other)


@pytest.mark.parametrize("change", ["swapped", "fewer", "other end"])
def test_preflight_stops_another_tokenizer(change: str, stub: Stub, policy: Policy, tmp_path: Path) -> None:
    """Catches a foreign tokenizer, whose scores would be nonsense without any error."""
    from transformers import AutoTokenizer

    policy.tokenizer.save_pretrained(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    if change == "swapped":
        vocabulary["3"], vocabulary["5"] = vocabulary["5"], vocabulary["3"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    if change == "other end":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            text = (tmp_path / name).read_text()
            (tmp_path / name).write_text(text.replace(policy.tokenizer.eos_token, "<|stop|>"))
    stub.tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    e = expert(stub, policy)
    words = {"swapped": "tokenizers differ|other ids", "fewer": "vocabulary is smaller", "other end": "end token 1 is"}
    if change == "fewer":
        stub.tokenizer = policy.tokenizer
        stub.policy.vocabulary -= 8
    try:
        with pytest.raises(UserError, match=words[change]):
            preflight(e, prompts(policy))
    finally:
        if change == "fewer":
            stub.policy.vocabulary += 8


def test_which_model(stub: Stub, policy: Policy) -> None:
    with pytest.raises(UserError, match="does not serve it; it serves tiny"):
        expert(stub, policy, ",model=large")


def test_the_context_is_respected(stub: Stub, policy: Policy) -> None:
    stub.context = 20
    with pytest.raises(UserError, match="the server's context is 20"):
        expert(stub, policy).sample(prompts(policy), 1, 0, 64)


def test_no_whole_distribution(stub: Stub, policy: Policy) -> None:
    """Catches a top-k that is taken for a distribution."""
    e = expert(stub, policy)
    assert "distribution" not in e.capabilities
    with pytest.raises(UserError, match="not its distribution"):
        e.distribution([])
    with pytest.raises(UserError, match="not its distribution"):
        e.start([])


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_spread_is_what_its_bucketing_needs(k: int, seed: int) -> None:
    """Any distribution: the divergence from an expert's top k entries is that from its whole table, coarsened."""
    rng = torch.Generator().manual_seed(seed)
    whole = (torch.randn(3, 12, generator=rng) * 4).log_softmax(-1)
    student = torch.randn(3, 12, generator=rng).log_softmax(-1)
    best = whole.topk(k)
    n = torch.zeros(3, dtype=torch.long)
    for kind in ("kl_expert_student", "kl_student_expert", "jsd"):
        goal = Objective("distribution", kind, beta=0.3, top_k=k, top_k_of="expert")
        parts = []
        for signal in (TopSignal(best.indices.int(), best.values, 12), TableSignal(whole)):
            batch = Batch(n[:, None], None, n[:, None], n, n, torch.arange(3), torch.ones(3), signal=signal)
            parts.append(evaluate(student.clone(), None, batch, goal, slice(0, 3)))
        torch.testing.assert_close(parts[0].loss_n, parts[1].loss_n, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(parts[0].d_nV, parts[1].d_nV, atol=2e-4, rtol=1e-3)


# -- every wrong answer is refused ----------------------------------------------------------------------------------

SENT = Tokens((3, 4), (5, 6, 7))


def good() -> dict[str, Any]:
    rows: list[Any] = [None] + [
        {str(i): {"logprob": -0.5, "rank": 2}, "9": {"logprob": -0.6, "rank": 1}} for i in (4, 5, 6, 7)
    ]
    choice = {"index": 0, "prompt_logprobs": rows, "prompt_token_ids": [3, 4, 5, 6, 7]}
    return {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 5}}


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for k, v in items:
        yield from paths(v, (*at, k))


IGNORED = {"rank"}
JUNK = [None, "x", [], {}, True, -1, 10**400, float("nan"), float("inf"), [[]], 0.5]


@pytest.mark.parametrize("where", list(paths(good())), ids=str)
def test_every_part_of_an_answer_may_be_junk(where: tuple[Any, ...]) -> None:
    """Each part of a good answer is replaced by junk: it is refused in words, or read as exactly the good answer."""
    want = read_scores(good(), [SENT], 1, "m", 10)
    for junk in JUNK:
        answer: Any = good()
        if not where:
            answer = junk
        else:
            place = answer
            for step in where[:-1]:
                place = place[step]
            place[where[-1]] = junk
        try:
            got = read_scores(answer, [SENT], 1, "m", 10)
        except BadAnswer:
            continue
        plausible = junk == -1 and where[-1] == "logprob"
        assert got == want or plausible or where[-1] == "9", f"{junk!r} at {where} was accepted"


def test_rollouts_need_tokens() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Rollout(Prompt("p", ""), 0, (), (), False, "", "x")
