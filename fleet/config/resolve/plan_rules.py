"""Resolves the rules of plans, and the keys that sign versions."""

from fleet.config.checks import ProjectFacts
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.plan_rules import PlanRule
from fleet.policies import PlanRuleSpec, RuleExceptionSpec, RuleLevel, SigningKeySpec, SigningSpec


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
        declared.signed or "",
        declared.max_cost_rise,
        tuple(
            RuleExceptionSpec(key, its.client or "", its.adapter or "", its.until, its.reason)
            for key, its in sorted(declared.exceptions.items())
        ),
    )


def signing(given: Declarations, facts: ProjectFacts) -> SigningSpec:
    """Return the keys that can be read, and the signatures in the lock."""
    keys = (
        SigningKeySpec(name, facts.signing_keys.get(its.file) or "", its.until)
        for name, its in sorted(given.signatures.items())
    )
    signed = {
        name: entry.signature.told
        for name, entry in sorted(facts.lock.adapters.items())
        if entry.signature
    }
    return SigningSpec(tuple(key for key in keys if key.fingerprint), signed)
