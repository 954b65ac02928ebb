"""Resolves the rules of plans."""

from fleet.config.checks import ProjectFacts
from fleet.config.schema.plan_rules import PlanRule
from fleet.rule_policy import PlanRuleSpec, RuleExceptionSpec, RuleLevel


def plan_rule(name: str, declared: PlanRule, facts: ProjectFacts) -> PlanRuleSpec:
    """Resolve a rule of plans."""
    return PlanRuleSpec(
        name,
        RuleLevel(declared.level),
        declared.max_traffic_per_day,
        tuple(sorted({*declared.closed}, key=lambda part: (part.begins, part.ends, part.text))),
        declared.timezone,
        facts.zones.get(declared.timezone) or (0,),
        declared.two_approvals or "",
        declared.max_cost_rise,
        tuple(
            RuleExceptionSpec(key, its.client or "", its.adapter or "", its.until, its.reason)
            for key, its in sorted(declared.exceptions.items())
        ),
    )
