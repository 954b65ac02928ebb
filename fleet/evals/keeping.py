"""Which evaluations keep their answers, and which need only what the ledger says of them.

A verdict is recomputed from the counts in the ledger, for ever. The answers behind it, which
people read and `fleetctl evidence verify` compares with their digest, stay as long as the version
is in the library.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.evals.due import AFTER_TRAINING, Record, records
from fleet.history import Entry

UNRECORDED = timedelta(days=1)
"""How long an evaluation that no entry names may be under way, or wait for its gate."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one evaluation, and what is to become of them."""

    name: str
    """Id of the run."""
    needed: bool
    why: str


def kept_answers(
    stored: Mapping[str, datetime],
    entries: Sequence[Entry],
    locked: Collection[str],
    now: datetime,
    keep: timedelta,
) -> tuple[Answers, ...]:
    """Decide which answers may be deleted.

    Args:
        stored: By run: when its file was written.
        entries: The ledger.
        locked: Full names of the versions in the library.
        now: The time.
        keep: How long all answers stay.
    """
    past = records(entries)
    known = {each.run: each.at for runs in past.values() for each in runs}
    behind = _behind_verdicts(entries, locked)
    marks = {run: why for runs in past.values() for run, why in _marks(runs, locked)}

    def why(run: str, at: datetime) -> str:
        if run not in known:
            return "no entry names it yet" if now - at < UNRECORDED else ""
        if now - known[run] < keep:
            return f"younger than {keep.days} days"
        return behind.get(run) or marks.get(run) or ""

    found = ((run, why(run, at)) for run, at in sorted(stored.items()))
    return tuple(
        Answers(run, bool(text), text or "nothing is judged or compared by it any more")
        for run, text in found
    )


def _behind_verdicts(entries: Iterable[Entry], locked: Collection[str]) -> dict[str, str]:
    return {
        str(run): f"a verdict on {each.data['adapter']} is computed from it"
        for each in entries
        if each.kind == "gate_judged" and each.data["adapter"] in locked
        for run in each.data.get("runs", ())
    }


def _marks(runs: Sequence[Record], locked: Collection[str]) -> Iterable[tuple[str, str]]:
    """Yield what later evaluations of one alias are compared with, and why it stays."""
    latest: dict[str, str] = {}
    first: dict[tuple[str, str, str], Record] = {}
    for each in runs:
        if not each.valid or each.adapter not in locked:
            continue
        if each.purpose in AFTER_TRAINING:
            asked = json.dumps(each.summary.get("decoding"), sort_keys=True)
            first.setdefault((each.adapter, each.golden_digest, asked), each)
        if each.purpose == "anchor":
            latest[each.adapter] = each.run
    for adapter, run in latest.items():
        yield run, f"the last anchor run of {adapter}"
    for each in first.values():
        yield each.run, f"what {each.adapter} answered after its training"
