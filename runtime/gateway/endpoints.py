"""The paths on which vLLM answers with an adapter, and what no client may ask for on them."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from runtime.gateway.refusals import invalid

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
EMBEDDINGS: Final = "/v1/embeddings"
PATHS: Final = frozenset({CHAT, TEXT, RESPONSES, MESSAGES, EMBEDDINGS})
"""Whether a server serves one depends on its base: one that generates has no embeddings."""
COUNTED: Final = frozenset({CHAT, TEXT})
"""Streams there are asked for the token counts so far."""
TYPED: Final = frozenset({RESPONSES, MESSAGES})
"""Streams there consist of typed events, with the counts at the end."""

PRIORITY: Final = "X-Vllm-Priority"
"""Header that says of a request, before its body, how soon it is to be worked on, the lower the
sooner. A body of messages has no field for it."""
NOT_SERVED: Final = b'{"detail":"Not Found"}'
"""What a server says of a path that it does not have, as opposed to a model."""

_JSON: Final = frozenset({"application/json", "application/octet-stream"})
_NUMBERS: Final = (msgspec.Raw(b"1"), msgspec.Raw(b"null"))
_MANY: Final = 1e9
_NUMBER: Final = msgspec.json.Decoder(int | float | str)
_PROMPTS: Final = re.compile(rb'\[[ \t\r\n]*["\[]')
"""How a list begins that holds prompts; one of numbers is a prompt itself."""
_OFF: Final = frozenset({b"null", b"false", b'""'})
_STORED: Final = ("previous_response_id", "conversation", "background")
"""What reads or leaves behind a conversation on the server, where others could find it."""
_OWN_TOOLS: Final = frozenset({"function", "custom"})
"""Kinds of tools that the client runs itself; others make the server call somebody."""
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Tool(msgspec.Struct):
    type: str = ""


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])


def check(path: str, fields: Mapping[str, msgspec.Raw], most: int) -> None:
    """See that a body asks for nothing that its path gives nobody.

    Args:
        path: One of `PATHS`.
        fields: The body's top level.
        most: Answers that one request may ask for.

    Raises:
        RefusalError: 400.
    """
    number = fields.get("n")
    if path == TEXT or (number is not None and number not in _NUMBERS):
        prompts, each = answers(path, fields)
        if prompts * each > most:
            raise invalid(f"At most {most} answers are given to one request.", "n")
    if path == RESPONSES:
        for name in _STORED:
            raw = fields.get(name)
            if raw is not None and bytes(raw) not in _OFF:
                raise invalid(f"`{name}` is not offered: no conversation is kept here.", name)
        _refuse_tools(fields.get("tools"))


def answers(path: str, fields: Mapping[str, msgspec.Raw]) -> tuple[int, int]:
    """Return how many prompts a body has, and how many answers it asks for to each."""
    raw = fields.get("n")
    each = 1 if raw is None or raw in _NUMBERS else _number(raw)
    return _prompts(fields) if path == TEXT else 1, each


def check_headers(content_type: str, encoding: str) -> None:
    """See that a body is JSON in UTF-8 by its headers; each is empty if it was not given.

    Raises:
        RefusalError: 400.
    """
    if encoding and encoding.lower() != "identity":
        raise invalid("Send the request body without Content-Encoding.")
    if content_type in {"", "application/json"}:
        return
    kind, *parameters = (each.strip().lower() for each in content_type.split(";"))
    charsets = {each.partition("=")[2].strip('"') for each in parameters if "charset" in each}
    if kind not in _JSON or charsets - {"utf-8"}:
        raise invalid("Send the request body as `application/json` in UTF-8.")


def _number(raw: msgspec.Raw) -> int:
    """Return `n` as vLLM reads it, which takes texts too; it never reads a larger number.

    Raises:
        RefusalError: it is no number.
    """
    try:
        return max(1, int(min(float(_NUMBER.decode(raw)), _MANY)))
    except (msgspec.DecodeError, ValueError, OverflowError):
        raise invalid("`n` is not a number.", "n") from None


def _prompts(fields: Mapping[str, msgspec.Raw]) -> int:
    """Return how many prompts there are: a list of numbers is one."""
    raw = fields.get("prompt")
    if raw is None or _PROMPTS.match(memoryview(raw)) is None:
        return 1
    return len(_LIST.decode(raw))


def _refuse_tools(raw: msgspec.Raw | None) -> None:
    if raw is None or bytes(raw) in _OFF:
        return
    try:
        kinds = {each.type for each in _TOOLS.decode(raw)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kinds = set()  # for vLLM to refuse
    if kinds - _OWN_TOOLS:
        raise invalid("Only tools that the client runs itself are offered.", "tools")
