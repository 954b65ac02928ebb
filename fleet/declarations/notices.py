"""Who is told that traffic was moved without anybody having planned it."""

from fleet.declarations.section import Section
from fleet.units import Webhook, Word


class Notify(Section):
    """Where a notice goes when an alias was rolled back, by an operator or by a gate.

    It is posted as JSON with the sentence under `text`, which chat systems show, and the facts
    beside it. A notice that cannot be delivered stops nothing.
    """

    webhook: Webhook
    """Its URL, or where the URL is kept: `env:NAME`, `file:path`."""
    template: Word | None = None
    """A Jinja template of the text, relative to the project. Default: one that comes along."""
