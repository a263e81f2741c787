"""Tasks from reasoning-gym: walls between splits, the same problems in every process, answers, limits, bad input."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("reasoning_gym")

from understudy.errors import UserError
from understudy.tasks import load_task, make_task
from understudy.tasks.gym import GymConfig, GymTask
from understudy.tasks.gym import task as module
from understudy.tasks.gym.safety import harmless
from understudy.tasks.gym.task import Distinct, processes

SUM = "rg:chain_sum,min_terms=2,max_terms=2,min_digits=1,max_digits=1"  # 200 problems


@cache
def loaded(text: str) -> GymTask:
    task = load_task(text)
    assert isinstance(task, GymTask)
    return task


def questions(task: GymTask, split: str, n: int, seed: int = 0, start: int = 0) -> list[str]:
    return [p.text for p in task.prompts(split, n, seed, start)]


# -- splits and streams -----------------------------------------------------------------------------------------------


def test_splits_share_no_problem() -> None:
    """200 problems, all of them also in ood's. Catches a wall made of seeds: a repeated problem is on both sides."""
    task = loaded(f"{SUM},ood_max_terms=3,size=60")
    train = {q for seed in (0, 1) for q in questions(task, "train", 120, seed)}
    free = loaded(f"{SUM},ood_max_terms=3")
    endless = {q for seed in (0, 1) for q in questions(free, "train", 150, seed)}
    held = {s: {q for seed in (0, 1) for q in questions(task, s, 80, seed)} for s in ("test", "ood")}
    assert len(train) == 60
    assert len(endless) > 60
    for split in ("test", "ood"):
        assert not (train | endless) & held[split], f"{split} shares problems with train"
    assert any(q.count("+") + q.count("-") == 2 for q in held["ood"])


def test_a_small_split_is_counted_and_passed_over_again() -> None:
    """Catches an evaluation of 256 prompts on 40 problems, whose intervals would be much too narrow."""
    task = loaded(SUM)
    size = task.size("test")
    assert size is not None
    assert 20 < size < 90, "about a quarter of 200"
    whole = questions(task, "test", 2 * size)
    assert len(set(whole[:size])) == size
    assert sorted(whole[:size]) == sorted(whole[size:])
    assert whole[:size] != whole[size:], "each pass in a new order"
    assert task.size("train") is None
    assert loaded("rg:chain_sum").size("test") is None
    assert loaded("rg:chain_sum,size=7").size("train") == 7


def test_streams_do_not_depend_on_what_was_asked_before() -> None:
    """A resumed run asks from the middle. Catches a pool whose order depends on the calls."""
    for split in ("train", "test"):
        one, two = (make_task("rg:chain_sum") for _ in range(2))
        whole = [p.key for p in one.prompts(split, 40, seed=3)]
        assert [p.key for p in two.prompts(split, 15, 3, start=25)] == whole[25:]
        assert [p.key for p in two.prompts(split, 25, 3)] == whole[:25]
        assert [p.key for p in two.prompts(split, 15, 4, start=25)] != whole[25:]


def test_another_process_makes_the_same_problems() -> None:
    """isomorphic_strings draws from a set of strings, whose order differs between processes unless hashes are fixed."""
    here = questions(loaded("rg:isomorphic_strings"), "train", 4)
    code = (
        "from understudy.tasks import make_task\n"
        "for p in make_task('rg:isomorphic_strings').prompts('train', 4, 0): print(repr(p.text))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert [repr(q) for q in here] == there.stdout.splitlines()


def test_reseeding_is_the_same_as_making_it_new() -> None:
    """gsm_symbolic chooses its kinds of problem at construction. Catches one kind of problem for ever."""
    import reasoning_gym  # 1 data set: about a second

    task = loaded("rg:gsm_symbolic")
    for p in task.prompts("train", 3, 0):
        whole, at = divmod(p.data["seed"], 32)
        assert reasoning_gym.create_dataset("gsm_symbolic", seed=whole, size=32)[at]["question"].strip() in p.text
    p = loaded("rg:chain_sum").prompts("train", 1, 0)[0]
    assert reasoning_gym.create_dataset("chain_sum", seed=p.data["seed"])[0]["question"] in p.text


def test_distinct_ends_only_when_nothing_new_comes() -> None:
    pool = Distinct()
    pool.add([{"question": str(i % 10)} for i in range(80)])
    assert not pool.ended
    pool.add([{"question": "3"}] * 60)
    assert pool.ended
    assert len(pool.problems) == 10


# -- levels and options -----------------------------------------------------------------------------------------------


def test_levels() -> None:
    """level: everything up to it. ood_level: that alone. Options by name win, except in ood over its level."""
    task = loaded("rg:chain_sum,level=1,ood_level=4")
    kinds = task._facts["kinds"]
    assert "min_terms=2, max_terms=3, min_digits=1, max_digits=2" in kinds["train"]
    assert "min_terms=6, max_terms=6, min_digits=5, max_digits=5" in kinds["ood"]
    named = loaded("rg:chain_sum,max_terms=3,ood_level=4,ood_max_digits=6,allow_negation=true")._facts["kinds"]
    assert "min_terms=6, max_terms=6, min_digits=5, max_digits=6, allow_negation=True" in named["ood"]
    assert "max_terms=3, min_digits=1, max_digits=4, allow_negation=True" in named["train"]


def test_a_list_an_enum_and_a_pair() -> None:
    one = loaded("rg:basic_arithmetic,operators=+:-,format_style=simple")
    assert not any(sign in q.replace("</answer>", "") for q in questions(one, "train", 20) for sign in "*/")
    loaded("rg:word_sorting,transformation=uppercase")
    pair = load_task("pair:main=rg:chain_sum;max_terms=3,other=classify;bits=8,share=0.2")
    assert pair.splits[-1] == "forget"


BAD = {
    "rg": "names no data set; `understudy tasks rg` lists them",
    "rg:chain_sm": "did you mean chain_sum",
    "rg:composite": "is a mixture",
    "rg:chain_sum,min_term=2": r"task.min_term: 2: unknown for chain_sum \(did you mean min_terms\?\)",
    "rg:chain_sum,levl=2": r"did you mean level\?",
    "rg:chain_sum,ood_min_term=2": r"did you mean min_terms\?",
    "rg:chain_sum,min_terms=two": "task.min_terms: two: must be a whole number",
    "rg:chain_sum,min_terms=9,max_terms=3": "max_terms must be >= min_terms",
    "rg:chain_sum,min_terms=0": "task.min_terms: 0: min_terms must be positive",
    "rg:chain_sum,level=99": "task.level: 99: chain_sum has levels 0 to 10",
    "rg:chain_sum,level=-1": "must be at least 0",
    "rg:chain_sum,level=1,ood_level=0,ood_min_terms=2,ood_max_terms=3,ood_max_digits=2": "the same problems as train",
    "rg:gsm_symbolic,level=1": "gsm_symbolic has no curriculum",
    "rg:chain_sum,extract=tag": r"did you mean tags\?",
    "rg:basic_arithmetic,format_style=plain": "unknown; one of simple, natural",
    "rg:rearc,pso_difficulty_ranges=1": "cannot be written on a command line",
    "rg:chain_sum,test_share=0": "must lie in",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_bad_input_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=BAD[text]) as error:
        make_task(text)
    assert "\n" not in str(error.value)


def test_bad_split_and_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has train, test: give ood_level=N"):
        loaded("rg:chain_sum").prompts("ood", 1, 0)
    with pytest.raises(UserError, match="leaves no problem on one side"):
        make_task("rg:coin_flip,test_share=0.000001").prompts("test", 1, 0)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'understudy\[gym\]'"):
        make_task("rg:chain_sum")


# -- answers ----------------------------------------------------------------------------------------------------------

RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "tags": (
        ("so <answer>5</answer>", "5"), ("<answer>4</answer> no <answer> 5\n</answer>", "5"), ("5", ""),
        ("<think><answer>4</answer></think>5", ""), ("<answer>5", ""), ("<answer>a\nb</answer>", "a\nb"),
    ),
    "last_line": (("it is\n 5 \n\n", "5"), ("", ""), ("<think>4</think>5", "5")),
    "number": (("4 and then 5 apples", "5"), ("none", "")),
    "whole": ((" 5\n", "5"), ("a\nb", "a\nb")),
    "marked": (("\\boxed{5}", "5"), ("the answer is 5.", "5"), ("#### 5", "5")),
}  # fmt: skip


@pytest.mark.parametrize("extract", RULES)
def test_rules_of_extraction(extract: str) -> None:
    task = loaded(f"rg:chain_sum,extract={extract}")
    for text, answer in RULES[extract]:
        assert task.answer(text) == answer, text
    for p in task.prompts("test", 4, 0):
        assert task.verify(p, task.gold(p), True) == 1.0
        assert task.verify(p, "", True) == 0.0


def test_reward_is_one_or_zero_unless_partial() -> None:
    """reasoning-gym pays len(gold) / len(answer) for an answer that holds the right one."""
    strict, graded = loaded("rg:chain_sum"), loaded("rg:chain_sum,partial=true")
    (p,) = strict.prompts("train", 1, 0)
    right = p.data["answer"]
    texts = [f"<answer>{x}</answer>" for x in (right, f"it is {right}", "no")]
    assert strict.verify_many([(p, t, True) for t in texts]) == [1.0, 0.0, 0.0]
    full, part, none = graded.verify_many([(p, t, True) for t in texts])
    assert (full, none) == (1.0, 0.0)
    assert part == pytest.approx(len(right) / (len(right) + 6))


def test_a_gold_that_the_rule_cannot_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot read the right answer .*: use extract=tags"):
        load_task("rg:caesar_cipher,extract=number")


def test_a_scorer_that_hangs_is_stopped() -> None:
    """polynomial_multiplication gives the answer to sympy. Its process is replaced, and the next answer is scored."""
    task = loaded("rg:polynomial_multiplication,time_limit=1")
    (p,) = task.prompts("train", 1, 0)
    killed = processes().killed
    hang, right = task.verify_many([(p, "<answer>9**9**9**9*x</answer>", True), (p, task.gold(p), True)])
    assert (hang, right) == (0.0, 1.0)
    assert processes().killed <= killed + 1, "time or memory: either way one process"


HARMFUL = (
    "__import__('os').system('true')", "exit()", "().__class__", "open('x','w')", "x.evalf()", "[i for i in 'ab']",
    "lambda: 0", "'a'.join", "print(1)", "f(x)", "1" * 3000, "(y:=1)", "getattr (x, 'y')", "Symbol('x').name",
)  # fmt: skip


def test_text_that_a_scorer_would_execute() -> None:
    """n_queens and others call eval on the answer. Catches a model that ends the scoring process, or worse."""
    assert not any(harmless(text) for text in HARMFUL)
    for text in ("3*x**2 - 2*y + 1", "(1 + 2)*3/4", "[['_', 'Q'], ['Q', '_']]", "sin(x)*exp(2*x) + C", "1.5", "4 2 1"):
        assert harmless(text), text
    task = loaded("rg:string_insertion")
    (p,) = task.prompts("train", 1, 0)
    killed = processes().killed
    assert task.verify(p, "<answer>exit()</answer>", True) == 0.0
    assert processes().killed == killed


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_whatever_a_model_writes_has_a_score(text: str) -> None:
    for name in ("rg:chain_sum", "rg:chain_sum,extract=whole"):
        task = loaded(name)
        (p,) = task.prompts("test", 1, 0)
        for written in (text, f"<answer>{text}</answer>"):
            assert task.verify(p, written, True) in (0.0, 1.0)


def test_prompts_follow_the_wording() -> None:
    (plain,) = loaded("rg:chain_sum").prompts("train", 1, 0)
    assert plain.text.startswith("Question: ")
    assert plain.text.endswith("Give the final answer between <answer> and </answer>.\nAnswer:")
    (chat,) = loaded("rg:chain_sum,template=chat,system=Be brief.,extract=last_line").prompts("train", 1, 0)
    assert [role for role, _ in chat.messages] == ["system", "user"]
    assert chat.messages[1][1].endswith("Write the final answer alone on the last line.")
    assert plain.key == chat.key, "runs on the same problems can be paired"


def test_digest_follows_what_is_asked() -> None:
    names = ("rg:chain_sum", "rg:chain_sum,max_terms=3", "rg:chain_sum,seed=1", "rg:chain_sum,test_share=0.5")
    assert len({loaded(n).digest() for n in names}) == 4
    assert loaded("rg:chain_sum,time_limit=9").digest() == loaded("rg:chain_sum").digest()


def test_only_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """boxnet gives no answers: it loads, and says so where one is asked for."""
    task = loaded("rg:boxnet")
    (p,) = task.prompts("train", 1, 0)
    assert task.verify(p, "<answer>[]</answer>", True) == 0.0
    with pytest.raises(UserError, match="gives no right answers"):
        task.gold(p)


def test_defaults_of_the_options() -> None:
    config: Any = GymConfig(dataset="chain_sum")
    assert (config.extract, config.size, config.workers, config.max_new_tokens) == ("tags", 0, 1, 512)


def test_bare_is_the_problem_and_what_is_given_with_it() -> None:
    options = "min_terms=2,max_terms=2,extract=number"
    plain, bare, more = (
        load_task(f"rg:chain_sum,{options},{extra}").prompts("train", 1, 0)[0].text
        for extra in ("template=plain", "template=bare", "template=bare,instruction=Say:,prefill=It is")
    )
    assert plain == f"Question: {bare}\nAnswer:"
    assert bare.startswith("State the final answer to the following arithmetic problem: ")
    assert bare.endswith("=")
    assert more == f"{bare}\n\nSay:It is"
