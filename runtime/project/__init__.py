"""Declarations and facts read from files: YAML, lock, base shapes, recorded demand, commit."""
