"""Bounds requests and spreads them: limits, shares, turns, balance, health."""
