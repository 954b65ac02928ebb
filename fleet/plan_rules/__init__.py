"""Judges plans by the declared rules. Pure: the time enters as an argument."""

from fleet.plan_rules.judge import judge_rules

__all__ = ["judge_rules"]
