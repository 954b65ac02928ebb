"""A mistake of the first hours: the input, and quotes of the text that must be printed."""

from typing import NamedTuple


class Mistake(NamedTuple):
    name: str
    typed: str
    """A command of fleetctl or of curl, as typed in the project's folder."""
    code: int
    """Exit code; status of an answer to curl."""
    wrong: str
    where: str
    why: str
    remedy: str
    """Four parts of the printed text: cause, place, meaning, and the next step."""
    edits: tuple[tuple[str, str, str], ...] = ()
    """File, old text, new text; without old text `new` is a whole further file."""
    before: tuple[str, ...] = ()
    """Commands that go before the edits."""
    during: str = ""
    """State of the machine, one of `tests.mistakes.stage.MACHINES`."""


FLEET, ACME, GOLDEN = "fleet.yaml", "clients/acme.yaml", "golden/support.jsonl"
LAPTOP = "{kind: cpu, memory: 6GiB, price_per_hour: 0}"
GATED = (
    (FLEET, "gates: []", "gates: [accuracy]"),
    (FLEET, "fleet: quickstart",
    "fleet: quickstart\ngates: {accuracy: {metric: accuracy_drop, max: 3pp}}"),
)  # fmt: skip
