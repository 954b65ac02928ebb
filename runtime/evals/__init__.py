"""Evaluate served versions on golden sets: ask, score, store, compare in pairs."""
