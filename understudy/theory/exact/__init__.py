"""Exact statements about any finite problem: enumeration, decomposition, identities, bounds."""
