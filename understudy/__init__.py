"""Understudy: should a student model imitate its expert offline or online? Diagnose, train, compare."""

__version__ = "0.1.0"
