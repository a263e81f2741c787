"""Scores of the diagnosis against known outcomes (docs/diagnose.md)."""
