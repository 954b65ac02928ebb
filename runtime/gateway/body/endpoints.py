"""The paths that servers answer with an adapter, and the checks of requests on them."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from runtime.gateway.body.errors import invalid
from runtime.gateway.body.fields import check_bounds
from runtime.usage.row import COUNT_TOKENS, trace_id_of

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
EMBEDDINGS: Final = "/v1/embeddings"
PATHS: Final = frozenset({CHAT, TEXT, RESPONSES, MESSAGES, COUNT_TOKENS, EMBEDDINGS})
"""Which of them a server serves depends on its base: a base that generates has no embeddings."""
ANTHROPIC: Final = frozenset({MESSAGES, COUNT_TOKENS})
"""Paths of Anthropic's API, whose errors have another shape."""
COUNTED: Final = frozenset({CHAT, TEXT})
"""Paths whose streams are asked for the token counts so far."""
TYPED: Final = frozenset({RESPONSES, MESSAGES})
"""Paths whose streams consist of typed events, with the token counts at the end."""

PRIORITY: Final = "X-Vllm-Priority"
"""Header with the priority of a request, the lower the sooner; a body of messages has no field."""
NOT_SERVED: Final = b'{"detail":"Not Found"}'
"""Body of a server's 404 for a path that the server does not serve; a missing model has another."""

PLAIN_TYPES: Final = frozenset({"", "application/json"})
"""Content types that need no look at their parameters."""
_JSON: Final = frozenset({"application/json", "application/octet-stream"})
_ONE: Final = (msgspec.Raw(b"1"), msgspec.Raw(b"null"))
"""Values of `n` that ask for a single answer."""
_MANY: Final = 1e9
_MAX_EMBEDDED: Final = 2048
"""Upper bound of the texts of a request for embeddings, as in OpenAI's API."""
_MAX_COMMAS: Final = 250_000
"""Upper bound of the commas of a list of prompts, and so of the prompts to count."""
_NUMBER: Final = msgspec.json.Decoder(int | float | str)
_PROMPTS: Final = re.compile(rb'\[[ \t\r\n]*["\[]')
"""Start of a list of prompts; a list of numbers is a prompt itself."""
_OFF: Final = frozenset({b"null", b"false", b'""'})
_STORED: Final = ("previous_response_id", "conversation", "background")
"""Fields that read or leave a conversation on the server, open to other clients."""
_OWN_TOOLS: Final = frozenset({"function", "custom"})
"""Types of tools that the client runs itself; the server would run the others."""
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TRACE_STATE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,510}")


class _Tool(msgspec.Struct):
    type: str = ""


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])


def trace_of(parent: str, state: str) -> tuple[str | None, bytes]:
    """Return the id of a client's trace, and the headers by which the server joins the trace.

    Neither where `parent`, the header `traceparent`, is malformed; no `state` where that is.
    """
    trace_id = trace_id_of(parent)
    if trace_id is None:
        return None, b""
    lines = f"Traceparent: {parent}\r\n"
    if state and _TRACE_STATE.fullmatch(state):
        lines += f"Tracestate: {state}\r\n"
    return trace_id, lines.encode("ascii")


def check_fields(path: str, fields: Mapping[str, msgspec.Raw], max_answers: int) -> None:
    """Refuse (400) a body that asks for more than `max_answers`, or for fields of no client."""
    check_bounds(fields)
    number = fields.get("n")
    best = fields.get("best_of")
    if best is not None and best not in _ONE and _number(best, "best_of") > max_answers:
        raise invalid(f"At most {max_answers} answers are made for one request.", "best_of")
    if path == TEXT or (number is not None and number not in _ONE):
        prompts, answers_each = answers(path, fields)
        if prompts * answers_each > max_answers:
            raise invalid(f"At most {max_answers} answers are given to one request.", "n")
    if path == EMBEDDINGS and _texts("input", fields) > _MAX_EMBEDDED:
        raise invalid(f"`input` may have at most {_MAX_EMBEDDED} texts.", "input")
    if path == RESPONSES:
        for name in _STORED:
            raw = fields.get(name)
            if raw is not None and bytes(raw) not in _OFF:
                raise invalid(f"`{name}` is not offered: no conversation is kept here.", name)
        _refuse_tools(fields.get("tools"))


def answers(path: str, fields: Mapping[str, msgspec.Raw]) -> tuple[int, int]:
    """Return the number of a body's prompts, and of answers to every prompt."""
    raw = fields.get("n")
    answers_each = 1 if raw is None or raw in _ONE else _number(raw, "n")
    return _texts("prompt", fields) if path == TEXT else 1, answers_each


def check_headers(content_type: str, encoding: str) -> None:
    """Refuse (400) a body that is no JSON in UTF-8 by its headers; empty: not given."""
    if encoding and encoding.lower() != "identity":
        raise invalid("Send the request body without Content-Encoding.")
    if content_type in PLAIN_TYPES:
        return
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = {part.partition("=")[2].strip('"') for part in parameters if "charset" in part}
    if kind not in _JSON or charsets - {"utf-8"}:
        raise invalid("Send the body as JSON in UTF-8, with `Content-Type: application/json`.")


def _number(raw: msgspec.Raw, name: str) -> int:
    """Return a number of answers, at least as large as in vLLM's reading, or refuse (400)."""
    try:
        return max(1, int(min(float(_NUMBER.decode(raw)), _MANY)))
    except (msgspec.DecodeError, ValueError, OverflowError):
        raise invalid(f"`{name}` is not a number.", name) from None


def _texts(name: str, fields: Mapping[str, msgspec.Raw]) -> int:
    """Return the number of texts in a field: a list of numbers is a single text, as tokens."""
    raw = fields.get(name)
    if raw is None or _PROMPTS.match(memoryview(raw)) is None:
        return 1
    if bytes(raw).count(b",") > _MAX_COMMAS:  # refused before so many objects are made
        raise invalid(f"`{name}` may have at most {_MAX_COMMAS} commas as a list.", name)
    return len(_LIST.decode(raw))


def _refuse_tools(raw: msgspec.Raw | None) -> None:
    """Refuse (400) tools of the server's; the bound of `tools` holds."""
    if raw is None or bytes(raw) in _OFF:
        return
    try:
        kinds = {tool.type for tool in _TOOLS.decode(raw)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kinds = set()  # for vLLM to refuse
    if kinds - _OWN_TOOLS:
        raise invalid("Only tools that the client runs itself are offered.", "tools")


@lru_cache(maxsize=256)
def is_event_stream(content_type: str) -> bool:
    """Return whether a server's content type is that of a stream of events."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"
