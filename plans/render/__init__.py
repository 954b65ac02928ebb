"""Render a plan: by format name, a function from the plan to text.

A new format is a module with `render(plan) -> str` and a line here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from plans import lazily

if TYPE_CHECKING:
    from fleet.plan import Plan

RENDERERS: Mapping[str, Callable[["Plan"], str]] = MappingProxyType(
    {
        "html": lazily("plans.render.html", "render"),
        "json": lazily("plans.documents.plan_file", "dump"),
        "md": lazily("plans.render.markdown", "render"),
        "text": lazily("plans.render.text", "render"),
    }
)
"""Renderer by format name, of all that shows a plan to its reviewers."""
ALL_FORMATS: Mapping[str, Callable[["Plan"], str]] = MappingProxyType(
    {**RENDERERS, "gitlab": lazily("plans.render.gitlab", "render")}
)
"""Renderer by format name, counts too; the names are those of `fleetctl plan --format`."""
