"""The search for a counter-example, also on an instance file of a reader."""
