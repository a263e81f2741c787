"""Is the diagnosis right? Scored against outcomes that are known (docs/diagnose.md)."""
