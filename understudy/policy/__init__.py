"""A Hugging Face causal language model as a policy: to sample from, to score with, to train.

model.py: the policy. padding.py, decoding.py: its inputs. loading.py: where it comes from. lora.py: low-rank weights
beside its own. sharding.py: its weights distributed over several processes.
"""

from understudy.policy.loading import (
    Scratch,
    check_model,
    check_same_language,
    load_policy,
    make_scratch,
    resolve_device,
)
from understudy.policy.model import SCORE_ROWS, Policy, tokenizer_sha
from understudy.policy.padding import Padded, pad

__all__ = [
    "SCORE_ROWS", "Padded", "Policy", "Scratch", "check_model", "check_same_language", "load_policy", "make_scratch",
    "pad", "resolve_device", "tokenizer_sha",
]  # fmt: skip
