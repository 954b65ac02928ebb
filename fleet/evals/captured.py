"""Makes golden items and training items of captured requests and answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.evals.golden_item import (
    USUAL_MAX_TOKENS,
    GoldenItem,
    GoldenItemError,
    golden_item,
)

ROOM: Final = 2
"""Tokens that an answer may have, in those of the captured answer, where no limit was asked."""
_ROLES: Final = ("system", "developer", "user", "assistant")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_PLAIN: Final = ("text", "input_text", "output_text")
"""Types of the parts of a message that are text."""


@dataclass(frozen=True, slots=True)
class CapturedText:
    """A captured request with its answer."""

    id: str
    request: Mapping[str, Any]
    """The body, of any of the paths of a gateway."""
    answer: str
    output_tokens: int | None


def golden(captured: CapturedText) -> dict[str, Any] | None:
    """Return a golden item that expects the answer; None: the request holds more than text."""
    asked = _asked(captured.request)
    if asked is None:
        return None
    given = (captured.request.get(name) for name in _LIMITS)
    longest = next((limit for limit in given if type(limit) is int and limit > 0), None)
    enough = max(USUAL_MAX_TOKENS, ROOM * (captured.output_tokens or 0))
    return {"id": captured.id, **asked, "expected": captured.answer} | (
        {"max_tokens": longest or enough} if longest or enough > USUAL_MAX_TOKENS else {}
    )


def replayed(captured: CapturedText, group: str) -> GoldenItem | None:
    """Return the item by which a request is asked again; None: no model can be asked so.

    `group`: the user or the session that the request shares with others; empty: none.
    """
    document = golden(captured)
    try:
        json.dumps(document, ensure_ascii=False).encode()  # half a character is no UTF-8
        return None if document is None else golden_item({**document, "group": group})
    except (UnicodeEncodeError, GoldenItemError):
        return None


def training(captured: CapturedText) -> dict[str, Any] | None:
    """Return a training item: a conversation, or prompt and completion; None: as `golden`."""
    asked = _asked(captured.request)
    if asked is None or "prompt" in asked:
        return asked and {**asked, "completion": captured.answer}
    return {"messages": [*asked["messages"], {"role": "assistant", "content": captured.answer}]}


EXPORTS: Final[Mapping[str, Callable[[CapturedText], dict[str, Any] | None]]] = {
    "golden": golden,
    "training": training,
}
"""By the name of a form."""


def _asked(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `messages` or `prompt`; None: the request holds tools, images or several prompts."""
    if request.get("tools"):
        return None
    if "prompt" in request:
        prompt = request["prompt"]
        return {"prompt": prompt} if isinstance(prompt, str) and prompt.strip() else None
    given = request.get("messages", request.get("input"))
    given = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(given, list):
        return None
    if first := request.get("system") or request.get("instructions"):
        given = [{"role": "system", "content": first}, *given]
    messages = [_message(message) for message in given]
    is_asked = bool(messages) and None not in messages and given[-1].get("role") == "user"
    return {"messages": messages} if is_asked else None


def _message(given: Any) -> dict[str, str] | None:
    if not isinstance(given, dict) or given.get("role") not in _ROLES or given.get("tool_calls"):
        return None
    content = given.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") in _PLAIN else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        return None
    return {"role": given["role"], "content": "".join(map(str, texts))}
