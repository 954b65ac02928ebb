"""Render the templates of `plans/templates` with Jinja: the environment of all pages and files.

Jinja is slow to import: modules that render text for a terminal do not import this module.
"""

import json
from functools import cache
from itertools import zip_longest
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from plans.tables import capitalized
from plans.visible import visible


def rendered(template: str, **values: Any) -> str:
    """Return the template's text with the values put in.

    Values are escaped in `.html.j2` and `.svg.j2`. Other templates escape nothing themselves:
    Markdown calls `prose`; notices are plain text; scaffolds take names that are checked before.

    Raises:
        jinja2.UndefinedError: the template uses a name without a value.
    """
    environment = _workflows() if template.startswith("ci/") else _environment()
    return environment.get_template(template).render(values)


@cache
def _workflows() -> Environment:
    """Return the environment of CI files, in which `${{ … }}` belongs to the runner."""
    return _environment().overlay(variable_start_string="<%", variable_end_string="%>")


def _shown(value: Any) -> Any:
    """Mark unseen characters of a value; markup of our own is left as written."""
    return visible(value) if type(value) is str else value


def code(text: Any) -> Markup:
    """Return text as HTML, with words between backquotes as code."""
    parts = str(visible(str(text))).split("`")
    shown = [escape(part) for part in parts]
    if len(parts) % 2 == 0:  # a backquote without its other: text as written
        return Markup("`").join(shown)
    marked = (Markup("<code>{}</code>").format(part) for part in shown[1::2])
    pairs = zip_longest(shown[::2], marked, fillvalue=Markup())
    return Markup().join(part for pair in pairs for part in pair)


def quoted(text: str) -> str:
    """Return any text as a quoted scalar of YAML, in which nothing is filled in."""
    return json.dumps(text).replace("${", "$${")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plans", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "svg.j2"), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters["code"] = code
    environment.filters["quoted"] = quoted
    environment.filters["capitalize_first"] = capitalized
    return environment
