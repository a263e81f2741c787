"""On-policy distillation in plain torch and transformers: the row `opd` of the method table, without Understudy.

    python examples/on_policy_distillation.py                          two tiny random models, seconds on a CPU
    python examples/on_policy_distillation.py --student S --expert E   Hugging Face models that share a tokenizer

The student writes completions. The expert scores each token y_t of them, and gives it the weight
log expert(y_t) - log student(y_t): positive where the student should have been surer. The policy gradient
-mean(weight * grad log student(y_t)) is an unbiased estimate of the gradient of KL(student || expert), per token, on
the prefixes that the student reaches. tests/identities/test_example.py checks that `update` equals production code.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PROMPTS = ["3 + 4 =", "The capital of France is", "def add(a, b):", "To be or not"]
SAMPLES, LENGTH = 4, 12  # completions per prompt, tokens per completion at most


@torch.no_grad()
def sample(model, prompt, samples, length, end):
    """Completions of `prompt` (token ids) at temperature 1: lists of ids, cut after the first `end` token."""
    ids = torch.tensor([prompt] * samples, device=model.device)
    for _ in range(length):
        ids = torch.cat([ids, torch.multinomial(model(ids).logits[:, -1].softmax(-1), 1)], dim=1)
    completions = ids[:, len(prompt) :].tolist()
    return [c[: c.index(end) + 1] if end in c else c for c in completions]


def log_probs(model, prompt, completion):
    """log model(token | everything before it) of each completion token, (T,) nats."""
    logits = model(torch.tensor([prompt + completion], device=model.device)).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(completion)), completion]


def update(student, expert, optimizer, rollouts, max_norm=1.0):
    """One step on rollouts, (prompt, completion) pairs of ids that `student` sampled. Estimate of the reverse KL."""
    tokens = sum(len(completion) for _, completion in rollouts)
    reverse_kl = 0.0  # nats per token
    optimizer.zero_grad()
    for prompt, completion in rollouts:
        student_logp = log_probs(student, prompt, completion)
        with torch.no_grad():
            weight = log_probs(expert, prompt, completion) - student_logp  # a signal: no gradient flows through it
        loss = -(weight * student_logp).sum() / tokens  # mean over all tokens of the update, not per completion
        loss.backward()
        reverse_kl -= float(weight.sum()) / tokens
    torch.nn.utils.clip_grad_norm_(student.parameters(), max_norm)
    optimizer.step()
    return reverse_kl


def tiny(seed):
    """A random model over bytes, whose distributions are far from uniform."""
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, initializer_range=0.3, eos_token_id=0, **size))


def main(argv=None):
    parser = argparse.ArgumentParser(description="On-policy distillation with the sampled-token reverse KL.")
    parser.add_argument("--student", help="Hugging Face model to train (default: a tiny random one)")
    parser.add_argument("--expert", help="Hugging Face model to imitate (default: another tiny random one)")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-2, help="learning rate (1e-6 to 1e-5 for real models)")
    args = parser.parse_args(argv)
    # eval(): no dropout, the student must score as it sampled
    student = (AutoModelForCausalLM.from_pretrained(args.student) if args.student else tiny(seed=1)).eval()
    expert = (AutoModelForCausalLM.from_pretrained(args.expert) if args.expert else tiny(seed=2)).eval()
    prompts, end = [list(p.encode()) for p in PROMPTS], 0
    if args.student:
        tokenizer = AutoTokenizer.from_pretrained(args.student)
        prompts, end = [tokenizer(p)["input_ids"] for p in PROMPTS], tokenizer.eos_token_id
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0)
    torch.manual_seed(0)
    history = []
    for step in range(args.updates):
        rollouts = [(p, c) for p in prompts for c in sample(student, p, SAMPLES, LENGTH, end)]
        history.append(update(student, expert, optimizer, rollouts))
        print(f"update {step + 1:3d}  reverse KL {history[-1]:.3f} nats per token", flush=True)
    return history


if __name__ == "__main__":
    main()
