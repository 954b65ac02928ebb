"""Draws the packing: what fills each device, who is in which slot, and the load of the day.

    Fleet + Placement -> sketch -> DRAWINGS[text | svg | html]

`sketch` says what there is to draw; `text` draws it in characters; `layout` puts it on a plane,
from which `picture` makes SVG and HTML, self-contained and without a script.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from plans.drawing.content import Drawing, only, sketch

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
"""By format name, as `fleetctl draw --format` takes it."""

__all__ = ["DRAWINGS", "Drawing", "only", "sketch"]
