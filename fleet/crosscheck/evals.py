"""Evaluations: what they need of the rest of the fleet."""

from collections.abc import Iterator

from fleet.crosscheck.references import Path
from fleet.declarations import Declarations
from fleet.problems import Finding

COUNTED = ("native", "inspect")
"""Engines that can ask through a gateway; the others have no way to show a version's header."""


def check_evals(given: Declarations) -> Iterator[Finding]:
    """Yield what cannot be asked, or not be billed, as it is declared."""
    if given.evals.through == "server":
        yield from _unbilled(given)
        return
    own = [name for name, each in given.gateways.items() if each.kind == "fleetctl"]
    at: Path = ("evals", "through")
    if not own:
        detail = "No gateway of fleetctl's own is declared, and an Envoy knows no operator."
        yield Finding("FC1252", at, detail, hint="Declare one, or write `through: server`.")
    if given.evals.engine not in COUNTED:
        detail = f"The engine `{given.evals.engine}` asks a server by itself."
        hint = f"Use {' or '.join(f'`{each}`' for each in COUNTED)}, or write `through: server`."
        yield Finding("FC1252", at, detail, hint=hint)


def _unbilled(given: Declarations) -> Iterator[Finding]:
    asked: list[Path] = [("tiers", name) for name, each in given.tiers.items() if each.bill_evals]
    asked += [("clients", name) for name, each in given.clients.items() if each.bill_evals]
    for path in asked:
        detail = "Evaluations go to the servers directly, where nobody counts for whom they are."
        hint = "Write `evals: {through: gateway}`, or leave `bill_evals` out."
        yield Finding("FC1253", (*path, "bill_evals"), detail, hint=hint)
