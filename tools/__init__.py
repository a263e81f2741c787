"""Developers' tools: not in the wheel, and run from the root of the source tree."""
