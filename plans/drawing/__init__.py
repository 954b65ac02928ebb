"""Draw the packing: parts of devices, adapters in slots, and the load of the day.

    FleetSpec + PlacementResult -> drawing_of -> DRAWINGS[text | svg | html]

SVG and HTML are self-contained and have no script.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from plans import lazily
from plans.drawing.content import Drawing, around_server, drawing_of

DRAWINGS: Mapping[str, Callable[[Drawing], str]] = MappingProxyType(
    {
        "html": lazily("plans.drawing.svg", "html"),
        "svg": lazily("plans.drawing.svg", "svg"),
        "text": lazily("plans.drawing.labels", "render"),
    }
)
"""Renderer by format name; the names are those of `fleetctl draw --format`."""

__all__ = ["DRAWINGS", "Drawing", "around_server", "drawing_of"]
