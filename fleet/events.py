"""Events that people are told of, and what of each a client may see."""

from collections.abc import Mapping
from typing import Literal, get_args

ClientEvent = Literal[
    "rolled_back", "gate_failed", "undecided", "drifted", "drill_failed", "retraining_overdue"
]
"""What is about one alias, so that its client may be told."""
Event = Literal[ClientEvent, "ledger_away"]
EVENTS: tuple[Event, ...] = get_args(Event)
USUAL_FOR_CLIENTS: tuple[ClientEvent, ...] = ("rolled_back",)
"""What a client is told where nothing else is declared: what changed who answers."""
OF_A_CLIENT: Mapping[Event, tuple[str, ...]] = {
    "rolled_back": ("alias", "decided", "seconds", "from", "to", "complete"),
    "gate_failed": ("alias", "version", "stable", "at"),
    "undecided": ("alias", "version", "percent", "at"),
    "drifted": ("alias", "version", "measure", "at"),
    "drill_failed": ("alias", "at"),
    "retraining_overdue": ("alias", "version", "at"),
}
"""Facts that a client may see; no server, gateway, person or other client is among them."""
