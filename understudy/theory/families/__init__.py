"""Families of imitation problems whose exact regrets are known."""
