"""What is lost in translation, as lines: where another gateway serves the routes."""

from collections.abc import Iterable, Iterator
from typing import Final

from fleet.translation import Loss, Target, Translation
from plans.wording import listed

NAMES: Final[dict[Target, str]] = {Target.ENVOY: "Envoy", Target.LITELLM: "LiteLLM"}
_ALIASES: Final = 6
"""Aliases that one line names; the plan file has them all."""


def heading(made: Translation) -> str:
    """Return whose shortcomings these are."""
    whose = f"gateway {listed(made.gateways)}" if made.gateways else "which is compiled for"
    return f"Lost in translation to {NAMES[made.target]}, {whose}"


def lines(made: Translation) -> list[str]:
    """Return a short line for each thing that is lost."""
    return [_line(each) for each in made.lost]


def sentences(lost: Iterable[Loss]) -> Iterator[str]:
    """Yield what is lost with its details, for whoever compiles."""
    for each in lost:
        text = _line(each)
        yield f"{text[0].upper()}{text[1:]}.{f' {each.detail}' if each.detail else ''}"


def _line(loss: Loss) -> str:
    return f"{loss.what}: {listed(loss.aliases, _ALIASES)}" if loss.aliases else loss.what
