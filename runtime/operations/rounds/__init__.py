"""Rounds of `reconcile` and `watch` at an interval, and the judging of rollouts in them."""
