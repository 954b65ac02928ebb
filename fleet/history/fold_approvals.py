"""Folds approvals and keys; an apply that ends as planned uses up the approvals of its plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.consent import Approval
from fleet.history.apply_events import ApplyFinished, PlanApproved
from fleet.history.events import Entry
from fleet.history.fold_durations import DurationsFold
from fleet.history.signatures import KeyAccepted, KeyTerm, keys_after


@dataclass(slots=True)
class ApprovalsFold(DurationsFold):
    """Approvals and keys while entries are being added; the fields are those of `History`."""

    keys: Mapping[str, KeyTerm] = field(default_factory=dict)
    approvals: dict[str, tuple[Approval, ...]] = field(default_factory=dict)

    def consented(self, entry: Entry) -> None:
        """Take an approval, a key, or the end of an apply; other entries are passed over.

        A plan that was carried out half-way keeps its approvals: the same plan is applied again.
        """
        if not self.keys or isinstance(entry.event, KeyAccepted):
            self.keys = keys_after(self.keys, entry.seq, entry.event, entry.signature)
        match entry.event:
            case PlanApproved() as event:
                made = Approval(entry.by, entry.time, event.reason, event.accept_outage)
                self.approvals[event.plan_id] = (*self.approvals.get(event.plan_id, ()), made)
            case ApplyFinished(plan_id=plan_id, result="converged"):
                self.approvals.pop(plan_id, None)
            case _:
                pass
