"""Judges rollouts: evidence for each trial, gathered at every tick and written to the ledger.

    trials --> live: usage rows -> windows -> judge              at each tick
    trials --> offline: both versions evaluated -> judge         once, beside the ticks
    judged --> ledger (`gate_judged`); FAIL --> the caller rolls that one alias back

Gates move no traffic. A tick may come at any time, and again after it was killed: a finding is
written once.
"""
