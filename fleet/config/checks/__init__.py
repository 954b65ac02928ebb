"""Checks declarations against others and against the project: references, rules, amounts."""
