"""What bounds and spreads requests: limits, shares, turns, balance, health."""
