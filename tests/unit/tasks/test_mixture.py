"""The pair of tasks, experts of another padding, and the temperature of evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy.errors import UserError
from understudy.evaluation.sampled import sample_policy
from understudy.experts.local import LocalExpert
from understudy.policy import load_policy
from understudy.specs import parse_spec
from understudy.tasks import load_task

PAIR = "pair:main=countdown;max_number=6,other=classify;bits=8;relevant=2"


def test_splits_and_routing():
    task = load_task(PAIR)  # gold answers of every split are checked
    assert task.splits == ("train", "test", "ood", "forget")
    assert all(p.key.startswith("classify ") for p in task.prompts("forget", 20, 0))
    assert all(p.key.startswith("countdown ") for p in task.prompts("train", 40, 0))


def test_share_of_the_other_task():
    task = load_task(f"{PAIR},share=0.4")
    prompts = task.prompts("train", 300, 0)
    other = sum(p.key.startswith("classify ") for p in prompts)
    assert 80 < other < 160
    assert prompts[100:110] == task.prompts("train", 10, 0, start=100)
    held = {p.key for p in task.prompts("forget", 200, 0)}
    assert not held & {p.key for p in prompts}


def test_each_prompt_is_answered_by_its_own_program():
    task = load_task(f"{PAIR},share=0.5")
    tokenizer = task.tokenizer()
    expert = task.expert(parse_spec("solver", "expert"), tokenizer)
    prompts = [p.encoded(tokenizer(p.text)["input_ids"]) for p in task.prompts("train", 12, 3)]
    rollouts = expert.sample(prompts, 1, 0, task.max_new_tokens)
    assert sum(task.verify(r.prompt, r.text, r.ended) for r in rollouts) >= 11
    for r, score in zip(rollouts, expert.score(rollouts)):
        torch.testing.assert_close(score, torch.tensor(r.behavior_logp), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["pair:main=pair", "pair:main=classify", "pair:share=2", "pair:other=nothing"])
def test_pair_mistakes(text: str):
    with pytest.raises(UserError):
        load_task(text)


def test_an_expert_with_more_padding_fits(models: dict[str, Path]):
    """Qwen2.5's sizes differ in padding rows alone; catches a table that is not cut or not renormalised."""
    task = load_task("countdown")
    policy = load_policy(str(models["llama"]), "expert", device="cpu")
    small = policy.vocabulary
    prompts = policy.encode(task.prompts("test", 3, 0))
    plain = LocalExpert(policy)
    rollouts = plain.sample(prompts, 1, 0, 12)
    before = plain.distribution(rollouts)
    policy.model.resize_token_embeddings(small + 6, mean_resizing=False)
    wide = LocalExpert(type(policy)(policy.model, policy.tokenizer, policy.name))
    assert wide.vocabulary == small + 6
    fitted = wide.fit(small)
    assert fitted.vocabulary == small
    for one, two in zip(before, fitted.distribution(rollouts)):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    assert [r.ids for r in fitted.sample(prompts, 1, 0, 12)] == [r.ids for r in rollouts]
    assert wide.fit(len(policy.tokenizer) - 1).vocabulary == small  # would lose tokens: left alone


def test_evaluation_temperature(models: dict[str, Path]):
    """Catches evaluations that ignore the temperature: near zero a sample is the greedy completion."""
    task = load_task("countdown")
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    prompts = policy.encode(task.prompts("test", 4, 0))
    cold = sample_policy(policy, task, prompts, 1, 0, 16, temperature=1e-4)
    assert cold.greedy is not None
    assert [r.ids for r in cold.rollouts] == [r.ids for r in cold.greedy]
    warm = sample_policy(policy, task, prompts, 1, 0, 16)
    assert [r.ids for r in warm.rollouts] != [r.ids for r in cold.rollouts]
