"""Who is told of what happens by itself: by a gate, a schedule, or an operator at night."""

from fleet.declarations.section import Section
from fleet.events import EVENTS, USUAL_FOR_CLIENTS, ClientEvent, Event
from fleet.units import Webhook, Word


class Notify(Section):
    """Where notices go, and of which events.

    `rolled_back`, by an operator or a gate. `gate_failed`: a version was stopped before it got
    traffic. `undecided`: a rollout waits for people. `drifted`: a scheduled evaluation is worse
    than after training. `drill_failed`. `retraining_overdue`. `ledger_away`: the ledger cannot be
    read, so that gates only take traffic back; a client is not told.

    A notice is posted as JSON with the sentence under `text`, which chat systems show, and the
    facts beside it. What lasts is told once. A notice that cannot be delivered stops nothing.
    """

    webhook: Webhook
    """Its URL, or where the URL is kept: `env:NAME`, `file:path`."""
    template: Word | None = None
    """A Jinja template of the text, relative to the project. Default: one that comes along.

    The facts are under `it`, such as `it.event` and `it.alias`. `fleetctl validate` tries it.
    """
    events: tuple[Event, ...] = EVENTS
    """What is told. Default: everything."""


class ClientNotify(Notify):
    """Where a client is told, and of what; it sees nothing of servers, people and other clients."""

    events: tuple[ClientEvent, ...] = USUAL_FOR_CLIENTS
    """What is told. Default: `rolled_back`."""
