"""Executes plans: walks the steps, journals before and after, verifies at the end."""
