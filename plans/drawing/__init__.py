"""Draw the packing: parts of devices, adapters in slots, and the load of the day.

    FleetSpec + PlacementResult -> drawing_of -> DRAWINGS[text | svg | html]

SVG and HTML are self-contained and have no script.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from plans.drawing.content import Drawing, around_server, drawing_of

Renderer = Callable[[Drawing], str]


def _text(drawing: Drawing) -> str:
    from plans.drawing.labels import render  # noqa: PLC0415 (each form loads what it needs)

    return render(drawing)


def _svg(drawing: Drawing) -> str:
    from plans.drawing.svg import svg  # noqa: PLC0415 (Jinja is slow to import)

    return svg(drawing)


def _html(drawing: Drawing) -> str:
    from plans.drawing.svg import html  # noqa: PLC0415

    return html(drawing)


DRAWINGS: Mapping[str, Renderer] = MappingProxyType({"html": _html, "svg": _svg, "text": _text})
"""Renderer by format name; the names are those of `fleetctl draw --format`."""

__all__ = ["DRAWINGS", "Drawing", "around_server", "drawing_of"]
