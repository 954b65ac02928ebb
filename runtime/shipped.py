"""Finds files of the repository that an installed fleetctl has in its package `runtime`."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent
PLUGIN_FOLDER: Final = _PACKAGE / "vllm_plugin"
"""The plug-in of vLLM, a distribution of its own."""


def shipped(path: str) -> Path:
    """Return a file or folder, named as in the repository; a checkout has its own.

    The wheel gets them by `force-include` of pyproject.toml.
    """
    inside = _PACKAGE / "shipped" / path
    return inside if inside.exists() else _PACKAGE.parent / path
