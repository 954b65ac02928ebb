"""Judges plans by the declared rules and by recorded requests. Pure: the time is an argument."""

from fleet.plan_rules.judge import judge_rules
from fleet.plan_rules.requests import DAYS, refused_requests, skipped_stages

__all__ = ["DAYS", "judge_rules", "refused_requests", "skipped_stages"]
