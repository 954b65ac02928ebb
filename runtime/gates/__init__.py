"""Rollouts: evidence for what is being tried, gathered at each tick and written to the ledger.

    trials --> live: usage rows -> windows -> judge              at each tick
    trials --> offline: both versions evaluated -> judge         once, beside the ticks
    judged --> ledger (`gate_judged`); FAIL --> the caller rolls that one alias back

It moves no traffic. A tick may come at any time, and again after it was killed: what is
written is what was found, once.
"""
