"""Render a plan: by format name, a function from the plan to text.

A new format is a module with `render(plan) -> str` and a line here.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.plan import Plan

Renderer = Callable[["Plan"], str]


def _lazily(module: str, function: str) -> Renderer:
    # Jinja alone takes longer to import than most commands run.
    def render(plan: "Plan") -> str:
        text: str = getattr(import_module(module), function)(plan)
        return text

    return render


RENDERERS: Mapping[str, Renderer] = MappingProxyType(
    {
        "html": _lazily("plans.render.html", "render"),
        "json": _lazily("plans.documents.plan_file", "dump"),
        "md": _lazily("plans.render.markdown", "render"),
        "text": _lazily("plans.render.text", "render"),
    }
)
"""Renderer by format name; the names are those of `fleetctl plan --format`."""
