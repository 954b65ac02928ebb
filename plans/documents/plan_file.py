"""Write and read the plan file: a plan's decisions as canonical JSON, with their hash as its id.

`decisions` are reviewed and carried out. `plan_id` is their hash; a file whose decisions hash
to another id is refused. `observations` are estimates and counts for the reader.
`needs_decision` follows from the decisions, and is not read back. `envelope` names author, time
and commit. No part holds a secret: keys are references and fingerprints.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fleet.codec import (
    DECISIONS,
    MEASURED,
    MalformedError,
    decisions,
    decode,
    identify,
    new_key,
    plain,
)
from fleet.consent import approve_command, clients_out, decisions_due
from fleet.errors import FleetError
from fleet.plan import Plan
from plans.documents.document import read, write

FORMAT = "fleetctl-plan"
VERSION = (1, 0)
"""Version of the format. Additions raise the minor; a reader refuses another major and ignores
fields of a later minor."""

MAKE = "fleetctl plan --out plan.json"
BESIDE = (
    "unknown",
    "cost_before",
    "cost_after",
    "unchanged",
    "untouched_clients",
    "ledger_seq",
    "cost_bound",
    "moves",
    "without_demand",
    "outlook",
    "translations",
    "prospects",
    "client_costs",
    "frozen",
    "rules",
    "saving",
    "late",
    "loss",
    "bound_by",
)
"""Fields of a plan that are observations: shown, and not part of the id."""
REQUIRED = BESIDE[: BESIDE.index("cost_bound")]
"""Observations that every release has written."""
SPARSE = BESIDE[BESIDE.index("translations") :]
"""Observations that are left out where they are empty."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Author, time and commit of a plan file; no part of the hash: equal plans have equal ids."""

    created_at: str
    """ISO 8601, UTC."""
    by: str  # author
    commit: str = ""
    """Git commit of the declarations; empty when unknown, `-dirty` appended when edited."""
    version: str = ""  # release of fleetctl


def dump(plan: Plan, envelope: Envelope | None = None) -> str:
    """Return the plan file; without an envelope the same plan gives the same bytes."""
    decided = decisions(plan)
    measured = {
        section: [
            _measured(names, plain(value), entry)
            for value, entry in zip(getattr(plan, section), decided[section], strict=True)
        ]
        for section, names in MEASURED.items()
    }
    document = {
        "format": FORMAT,
        "format_version": f"{VERSION[0]}.{VERSION[1]}",
        "plan_id": plan.id,
        "decisions": decided,
        "observations": {
            name: plain(value)
            for name in BESIDE
            if (value := getattr(plan, name)) or name not in SPARSE
        }
        | measured,
    }
    if due := decisions_due(plan):
        document["needs_decision"] = {
            "causes": plain(due),
            "clients_out": clients_out(plan),
            "command": approve_command(plan),
        }
    if envelope is not None:
        document["envelope"] = asdict(envelope)
    return write(document)


def load(text: str, file: str = "") -> Plan:
    """Return the plan in a plan file; errors name `file`.

    Raises:
        FleetError: FC5001 to FC5003 as `plans.document.read`; FC5004 a field is wrong;
            FC5005 the decisions are not those that the id names.
    """
    return load_with_envelope(text, file)[0]


def load_with_envelope(text: str, file: str = "") -> tuple[Plan, Envelope | None]:
    """Return the plan in a plan file and its envelope; errors as `load`."""
    document, later = read(text, FORMAT, VERSION, MAKE, file)
    decided = _section(document, "decisions")
    stated = document.get("plan_id")
    actual = identify(decided)
    if stated != actual:
        raise FleetError.of(
            "FC5005",
            "Plan was changed after it was made",
            f"The file calls itself plan `{stated!s:.40}`, and its decisions hash to "
            f"`{actual}`. What was reviewed is not what it says now, so nothing will be done "
            "with it.",
            hint="plan again and have the new plan reviewed",
            command=MAKE,
        )
    try:
        merged = _merged(decided, _section(document, "observations"))
        plan = decode(Plan, {**merged, "id": actual}, "plan", lenient=later)
        enclosed = document.get("envelope")
        envelope = (
            decode(Envelope, enclosed, "envelope", lenient=later) if enclosed is not None else None
        )
    except MalformedError as error:
        raise _malformed(str(error)) from None
    return plan, envelope


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    if not isinstance(section, dict):
        raise _malformed(f"`{name}` is missing or no object")
    return section


def _measured(
    names: Iterable[str], full: Mapping[str, Any], decided: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the part of a plain entry that is no decision."""
    measured = {name: full[name] for name in names if name in full}
    key, known = new_key(full), new_key(decided) or {}
    return measured | ({"fingerprint": key["fingerprint"]} if key and len(key) > len(known) else {})


def _whole(entry: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Return a plain entry with its observations; earlier releases decided on fingerprints."""
    if key := new_key(entry):
        key.setdefault("fingerprint", value.pop("fingerprint", None))
    return {**value, **entry}


def _merged(decided: Mapping[str, Any], observed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a plan, with the measured fields back in their entries."""
    both = {**{name: observed[name] for name in BESIDE if name in observed}, **decided}
    for section in MEASURED:
        entries, values = decided.get(section), observed.get(section)
        if not isinstance(entries, list) or not isinstance(values, list):
            raise MalformedError(f"`{section}` is missing or no list")
        if len(entries) != len(values) or not all(
            isinstance(entry, dict) for entry in (*entries, *values)
        ):
            raise MalformedError(f"observations.{section}: not one object for each entry")
        both[section] = [_whole(*pair) for pair in zip(entries, values, strict=True)]
    if missing := [name for name in DECISIONS if name not in decided]:
        raise MalformedError(f"decisions: `{missing[0]}` is missing")
    if missing := [name for name in REQUIRED if name not in observed]:
        raise MalformedError(f"plan: `{min(missing)}` is missing")
    return both


def _malformed(detail: str) -> FleetError:
    return FleetError.of(
        "FC5004",
        "Plan file has a wrong field",
        f"At {detail}. Such a plan cannot be carried out.",
        hint="make it again",
        command=MAKE,
    )
