"""Finds the drift of a failed apply: steps that could not be done and are still due."""

from collections.abc import Collection, Mapping

from fleet.history import StepFailed
from fleet.names import Address
from fleet.planning.drift_cause import DriftAction, DriftCause


def failed_causes(failed: Mapping[str, StepFailed], due: Collection[str]) -> tuple[DriftCause, ...]:
    """Return a cause for every failed step that a plan made now asks for again.

    `due`: ids of the steps of that plan.
    """
    return tuple(
        DriftCause(
            Address(event.address),
            DriftAction.ALERT,
            f"`{step}` could not be done, and is still due: {event.summary} ({event.code}). "
            f"{event.detail}".rstrip("."),
            (Address(event.address),),
            "fleetctl plan",
        )
        for step, event in sorted(failed.items())
        if step in due
    )
