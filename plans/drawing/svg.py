"""A drawing as SVG, and as a page around it: no script, no outside asset, day and night."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from plans.drawing.content import Drawing
from plans.drawing.labels import busiest, concurrency, headline, slots
from plans.drawing.layout import WIDTH, arrange


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("plans", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def svg(drawing: Drawing) -> str:
    """Return the picture; whatever comes from outside is escaped."""
    return _template("drawing.svg.j2").render(
        title=f"Fleet {drawing.fleet}: what fills each device, and who is where",
        description=headline(drawing),
        width=WIDTH,
        picture=arrange(drawing),
    )


def html(drawing: Drawing) -> str:
    """Return a page with the picture and its figures as a table."""
    return _template("drawing.html.j2").render(
        drawing=drawing,
        headline=headline(drawing),
        picture=Markup(svg(drawing)),  # noqa: S704 (our own template, which has escaped it)
        rows=[(each, slots(each), concurrency(each), busiest(each)) for each in drawing.tenants],
    )
