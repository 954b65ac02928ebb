"""Show values: turn a plan and other values into text, Markdown, HTML, JSON and graphs; pure."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(module: str, function: str) -> Callable[[Any], str]:
    """Return a renderer that imports its module when called: Jinja is slow to import."""

    def render(value: Any) -> str:
        text: str = getattr(import_module(module), function)(value)
        return text

    return render
