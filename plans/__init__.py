"""Show values: turn a plan and other values into text, Markdown, HTML, JSON and graphs; pure."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plans.render import RENDERERS

__all__ = ["RENDERERS"]


def __getattr__(name: str) -> Any:
    """Return `RENDERERS`, imported on first use; `import plans` alone stays cheap."""
    if name != "RENDERERS":
        raise AttributeError(f"module 'plans' has no attribute {name!r}")
    from plans.render import RENDERERS  # noqa: PLC0415

    return RENDERERS
