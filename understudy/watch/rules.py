"""The rules: what can go wrong, which numbers show it, what to do. One table."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.watch import checks
from understudy.watch.log import Log
from understudy.watch.names import TOOLS


@dataclass(frozen=True)
class Rule:
    """One kind of fault."""

    name: str
    title: str
    needs: tuple[tuple[str, ...], ...]
    """Signals: one of each group must be logged."""
    rule: str
    """When it is found, in words."""
    remedy: str
    source: str
    check: checks.Check
    samples: bool = False
    """Whether it is about completions that the student writes."""
    optional: bool = False
    """Whether many logs have no use for its numbers."""


RULES = (
    Rule(
        "not-finite", "loss or gradient not finite", (("loss", "grad_norm"),),
        "a loss or gradient norm is NaN or infinite",
        "go back to the last checkpoint before it; lower the learning rate, clip gradients, train in bfloat16 instead "
        "of float16; look at the batch of that update for empty completions",
        "arithmetic", checks.not_finite,
    ),
    Rule(
        "gradient-spikes", "gradient spikes", (("grad_norm",),),
        f"{checks.SPIKES} gradient norms over {checks.SPIKE:g} times the median of the {checks.SPIKE_HISTORY} before",
        "clip the gradient norm (1.0 is usual), lower the learning rate or use a longer warm-up; look for very long or "
        "repeated texts in these batches",
        "rule of thumb; no alarm on the recorded healthy phases", checks.spikes,
    ),
    Rule(
        "learning-rate-zero", "learning rate is 0", (("lr",),),
        "three logged updates in a row have learning rate 0, before the last 3% of the training",
        "set the number of updates of the schedule to that of the training (max_steps); check that a resume restored "
        "the schedule",
        "arithmetic", checks.rate_zero,
    ),
    Rule(
        "end-token", "completions never end", (("at_limit", "length"),),
        f"{checks.AT_LIMIT_START:.0%} of the completions reach the limit in the first three logged updates",
        "compare the end token of the chat template with eos_token_id of the tokenizer and of generation_config.json; "
        "check that the prompts are rendered with the chat template that the model was trained with; if completions "
        "are right but long, raise the limit",
        "our preflight", checks.end_token, True,
    ),
    Rule(
        "length-limit", "more and more completions reach the length limit", (("at_limit", "length"),),
        f"{checks.WINDOW} updates have over {checks.AT_LIMIT:.0%} at the limit, "
        f"{checks.AT_LIMIT_MORE:.0%} more than the first",
        "raise the limit, or take completions that were cut off out of the loss (mask_truncated_completions in TRL); "
        "in a distillation check that the loss covers the end token and that no end token is added to a cut completion",
        "our guard (run-away)", checks.limit_grows, True,
    ),
    Rule(
        "length-collapse", "completions shrink to nothing", (("length",),),
        f"the mean length is under {checks.LENGTH_LEFT:.0%} of the start's and the reward is not higher",
        "check what the reward or the expert says about a completion that ends at once; weight tokens, not sequences",
        "rule of thumb", checks.length_falls, True,
    ),
    Rule(
        "entropy-collapse", "entropy collapse", (("entropy",), ("reward",)),
        f"entropy under {checks.ENTROPY_LEFT:.0%} of the start's (and under half of the expert's), reward not higher",
        "lower the learning rate, raise the upper clip (0.28) or add a KL to the start; sample at temperature 1; check "
        "that rewards differ within a group",
        "arXiv 2505.22617: reward is bought with entropy", checks.entropy_collapse, True,
    ),
    Rule(
        "entropy-runaway", "entropy runs away", (("entropy",),),
        "5 updates have over 3 times the entropy of the first, and 0.5 nats more; the reward is not higher",
        "go back to the checkpoint before it; lower the learning rate; set top-p and temperature to 1; check that "
        "sampler and trainer score alike",
        "our guard (run-away)", checks.entropy_runs, True,
    ),
    Rule(
        "reward-falls", "the reward falls", (("reward",),),
        "prompts per update known and rewards in [0, 1]: an e-process against a fall to "
        f"{checks.COLLAPSE:g} of the start's accuracy, error 5% for the whole log; "
        "else the mean of 5 logged updates is under half of the best 5 and "
        f"{checks.DROP_NOISE:g} standard errors below it",
        "go back to the best checkpoint before it; train offline (SFT) first if the student starts weak; lower the "
        "learning rate; check that the expert prefers right completions (`understudy diagnose`)",
        "our guard (harm)", checks.reward_falls, True,
    ),
    Rule(
        "kl-start", "the student starts far from the expert", (("kl_expert",),),
        f"the first three values are over {checks.KL_START:g} nats per token",
        "check that student and expert have the same tokenizer, chat template and end token; else train on the "
        "expert's completions (SFT) before going online",
        "our recorded phases", checks.kl_start, True,
    ),
    Rule(
        "kl-rises", "the student moves away from the expert", (("kl_expert",),),
        "5 updates have over 4 times the divergence of the first, and 0.1 nats per token more",
        "go back to the checkpoint before it; lower the learning rate; check the sign of the advantage",
        "our guard (run-away)", checks.kl_runs, True,
    ),
    Rule(
        "mass-leak", "probability leaves the kept tokens", (("student_mass",),),
        f"the mass of the student on the top tokens is under {checks.MASS:g}, or "
        f"{checks.MASS_LOSS:g} lower than at the start",
        "keep more tokens (top-k), take the top tokens of the student instead of the expert's, or add the rest of the "
        "probability as one more token; do not renormalise",
        "arXiv 2604.13016; known bugs of top-k losses", checks.mass_leaks, True, True,
    ),
    Rule(
        "sampler-mismatch", "sampler and trainer do not score alike",
        (("drift", "probability_gap", "kl_sampler", "ratio"),),
        "three updates: log-probs differ by "
        f"{checks.SAMPLER['drift']:g}, probabilities by {checks.SAMPLER['probability_gap']:g}, KL over "
        f"{checks.SAMPLER['kl_sampler']:g}, or the mean ratio is outside {checks.RATIO[0]:g} to {checks.RATIO[1]:g}",
        "use the same weights, precision and chat template in both; no top-p, top-k or temperature in the sampler that "
        "the trainer does not know; return processed log-probs; else correct by the importance ratio",
        "tinker's documentation: KL under 0.01 is stable", checks.sampler_differs, True,
    ),
    Rule(
        "clipping", "too many ratios are clipped", (("clipped",),),
        f"over {checks.CLIPPED:.0%} of the tokens in 5 updates",
        "lower the learning rate or make fewer updates per rollout",
        "rule of thumb", checks.clips, True, True,
    ),
    Rule(
        "no-signal", "all completions of a group get the same reward", (("same_reward",),),
        f"{checks.SAME_REWARD:.0%} of the groups in {checks.SAME_WINDOW} updates",
        "choose problems that the student solves sometimes (10% to 90%); take more completions per prompt; check the "
        "reward function on a right and on a wrong completion",
        "arithmetic: the advantages are 0", checks.no_signal, True, True,
    ),
    Rule(
        "accuracy-falls", "held-out accuracy falls", (("accuracy",),),
        "3 standard errors (and .05) below the best evaluation before",
        "take the best checkpoint; stop earlier, or lower the learning rate",
        "two shares", checks.accuracy_falls, optional=True,
    ),
    Rule(
        "overfitting", "held-out loss rises", (("eval_loss",),),
        "two evaluations above the lowest held-out loss, the last by 10%",
        "take the checkpoint with the lowest held-out loss; fewer epochs, more data",
        "rule of thumb", checks.overfits, optional=True,
    ),
    Rule(
        "nothing-learned", "nothing is learned", (("reward", "kl_expert", "loss"),),
        f"{checks.LEAST_ROWS} logged updates or more, and the last third is no better than the first 5 (reward: "
        "within 2 standard errors and below 0.9; divergence or loss: not lower)",
        "raise the learning rate; check that gradients reach the trained weights and that the completion's tokens are "
        "in the loss; if the reward is flat, check that rewards differ within a group",
        "two means", checks.nothing_learned,
    ),
)  # fmt: skip
"""In the order of their urgency."""


def applies(rule: Rule, log: Log) -> bool:
    """Whether the rule is about a training of this kind at all."""
    return log.samples or not rule.samples


def lacking(rule: Rule, log: Log) -> str:
    """A signal that the rule needs and the log does not have, one that can be logged if there is any; "": none."""
    for group in rule.needs:
        if "kl_expert" in group and "loss" in group:  # what a training is to improve depends on its kind
            group = ("reward", "kl_expert") if log.samples else ("loss", "kl_expert")
        if group == ("at_limit", "length"):
            if not log.has("at_limit") and not (log.has("length") and log.limit):
                return "at_limit"
        elif not any(log.has(signal) for signal in group):
            return next((signal for signal in group if signal in TOOLS[log.tool].missing), group[0])
    return ""
