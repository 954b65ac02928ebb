"""The verdict: the first thing a reviewer reads, and the reasons for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fleet.names import name_in_address
from fleet.plan import Action, Change, Impact, Plan
from plans.wording import counted, kind_of, listed

CANARY_PERCENT = 10
"""A premium client's move up to this share of requests is a canary and not worth a warning."""
PREMIUM_TIERS = frozenset({"premium", "enterprise"})


class ReviewLevel(StrEnum):
    """How much care an apply needs; values in order of severity."""

    SAFE = "safe to apply"
    CARE = "look before you apply"
    DANGER = "needs a decision"


LIGHTS = {ReviewLevel.SAFE: "🟢", ReviewLevel.CARE: "🟡", ReviewLevel.DANGER: "🔴"}


@dataclass(frozen=True, slots=True)
class Review:
    """A level and why it is no better; the reasons of the worst level come first."""

    level: ReviewLevel
    reasons: tuple[str, ...]

    @property
    def light(self) -> str:
        """Return the coloured circle."""
        return LIGHTS[self.level]


def judge(plan: Plan) -> Review:
    """Return the verdict on a plan.

    Danger: requests will fail, or a server restarts. Care: a way back that is not warm, a
    premium client moved by more than a canary, few slots left, a warning, or a server that
    could not be observed.
    """
    danger, care = tuple(_danger(plan)), tuple(_care(plan))
    if danger:
        return Review(ReviewLevel.DANGER, danger + care)
    return Review(ReviewLevel.CARE, care) if care else Review(ReviewLevel.SAFE, tuple(_safe(plan)))


def restarts(plan: Plan) -> tuple[Change, ...]:
    """Return the changes that restart a running server."""
    return tuple(
        each for each in plan.changes if kind_of(each) == "server" and each.action is Action.REPLACE
    )


def moved(plan: Plan) -> tuple[Impact, ...]:
    """Return the impacts in which requests will be answered differently, or not at all."""
    return tuple(each for each in plan.impacts if each.share_moved or each.interrupted)


def _danger(plan: Plan) -> Iterator[str]:
    interrupted = [each.alias for each in plan.impacts if each.interrupted]
    if interrupted:
        yield f"requests to {listed(interrupted)} will fail for a while"
    if found := restarts(plan):
        yield f"{counted(len(found), 'server')} to restart"


def _care(plan: Plan) -> Iterator[str]:
    ending = [
        name_in_address(each.address)
        for each in plan.changes
        if kind_of(each) == "route" and each.action is Action.DELETE
    ]
    if ending:
        yield f"no longer served: {listed(ending)}"
    cold = [
        each.alias
        for each in plan.impacts
        if each.back_out_class == "cold" and each.alias not in ending
    ]
    if cold:
        yield f"the way back for {listed(cold)} is cold (a version must be loaded first)"
    premium = [
        f"{each.alias} ({each.share_moved} %)"
        for each in plan.impacts
        if each.tier in PREMIUM_TIERS and each.share_moved > CANARY_PERCENT
        if each.back_out_class != "none"
    ]
    if premium:
        yield f"a premium client's requests move: {listed(premium)}"
    crowded = [
        f"{use.server} {use.slots_during} of {use.slots}"
        for use in plan.capacity
        if use.slots_during > use.slots_before and use.slots_during >= use.slots
    ]
    if crowded:
        yield f"no adapter slot is free during the apply: {listed(crowded, 4)}"
    if plan.warnings:
        yield counted(len(plan.warnings), "warning")
    # A key that is not readable here is no risk: apply reads it, or leaves the live one.
    if silent := [each for each in plan.unknown if not each.startswith("key/")]:
        yield f"not observed: {listed((each.partition(':')[0] for each in silent), 4)}"


def _safe(plan: Plan) -> Iterator[str]:
    yield "no restart"
    if any(each.back_out_class == "warm" for each in plan.impacts):
        yield "every way back is warm"
