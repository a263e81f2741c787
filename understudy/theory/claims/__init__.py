"""Every claim of docs/theory.md as something that is computed and compared with its bound."""
