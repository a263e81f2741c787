"""Which way should this student be trained? Asked before anybody pays for it (docs/diagnose.md)."""
