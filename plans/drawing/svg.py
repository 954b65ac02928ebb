"""Render a drawing as SVG, and as an HTML page: no script, no outside asset, light and dark."""

from markupsafe import Markup

from plans.drawing.content import Drawing
from plans.drawing.labels import headline, load_label, requests_label, slots_label
from plans.drawing.layout import WIDTH, arrange
from plans.templating import rendered


def svg(drawing: Drawing) -> str:
    """Return the picture; names from outside are escaped."""
    return rendered(
        "drawing.svg.j2",
        title=f"Fleet {drawing.fleet}: what fills each device, and who is where",
        description=headline(drawing),
        width=WIDTH,
        picture=arrange(drawing),
    )


def html(drawing: Drawing) -> str:
    """Return a page with the picture and a table of the figures."""
    return rendered(
        "drawing.html.j2",
        drawing=drawing,
        headline=headline(drawing),
        picture=Markup(svg(drawing)),  # noqa: S704 (our own template, which has escaped it)
        rows=[
            (panel, slots_label(panel), requests_label(panel), load_label(panel))
            for panel in drawing.panels
        ],
    )
