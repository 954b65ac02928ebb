"""Notices: what operators and a client are told of a rollback."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

Audience = Literal["client", "operators"]

OF_A_CLIENT = ("alias", "decided", "seconds", "from", "to", "complete")
"""Facts that a client may see; no server, gateway, person or other client is among them."""


def document(audience: Audience, facts: Mapping[str, Any], template: str = "") -> dict[str, Any]:
    """Return what is posted: the text, and beside it the facts that this reader may see.

    Args:
        audience: Who reads it.
        facts: See `RollbackResult`: alias, from, to, decided, seconds, cause, reason, ...
        template: Source of a template of one's own; empty: the one that comes along.

    Raises:
        ValueError: the template cannot be rendered; the text says why.
    """
    seen = facts if audience == "operators" else {name: facts[name] for name in OF_A_CLIENT}
    return {"event": "rolled_back", "text": _text(audience, seen, template), **seen}


def _text(audience: Audience, facts: Mapping[str, Any], template: str) -> str:
    # `from` is a word of Jinja's own, so the facts stand under one name.
    if not template:
        made = _ours().get_template(f"notice_{audience}.txt.j2")
        return made.render(it=facts).strip()
    try:
        theirs = SandboxedEnvironment(undefined=StrictUndefined).from_string(template)
        return theirs.render(it=facts).strip()
    except (TemplateError, TypeError, ArithmeticError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


@cache
def _ours() -> Environment:
    return Environment(  # noqa: S701 (plain text)
        loader=PackageLoader("plans", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
