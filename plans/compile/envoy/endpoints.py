"""The paths on which versions answer: what is read of a body there, and what is written into it.

The words and limits are those of our gateway (`runtime/gateway/endpoints.py`, `rewrite.py`).

Which of a client's headers Envoy looks at: all others are removed before anything reads them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from plans.compile.envoy.messages import CLIENT_STATE, VERSION_STATE, Json

KEPT: Final = (
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "x-api-key",
    "x-session-id",
)


def others(kept: Iterable[str] = KEPT) -> str:
    """Return a regular expression of all header names but these and HTTP/2's own."""
    return f"(?:{_leaving(sorted(kept), ':')})"


def other_words(words: Iterable[str], end: str) -> str:
    """Return a regular expression of all texts but these words, as far as the character `end`."""
    return f"(?:{_leaving(sorted(words), '', end)})"


def _leaving(words: list[str], begin: str | None = None, end: str = "") -> str:
    """Return what is none of the words.

    RE2 has no negation, so it is spelt out: a text leaves the tree of the words at some
    character, or ends before one of them does.

    Args:
        words: At this place of the tree, what is left of each.
        begin: At the root: the character that no text begins with, empty for none.
        end: The character that no text holds, empty for none.
    """
    ends = "" in words
    heads = sorted({each[0] for each in words if each})
    ways = [] if ends or begin == ":" else [""]
    some = f"[^{end}]" if end else "."
    outside = "".join(re.escape(each) for each in heads) + (begin or "") + end
    ways.append(f"[^{outside}]{some}*" if heads else f"{some}+")
    ways += [
        re.escape(head) + f"(?:{_leaving([w[1:] for w in words if w.startswith(head)], end=end)})"
        for head in heads
    ]
    return "|".join(ways)


ECHOED: Final = "x-fleetctl-echo"
LOGPROBS: Final = "x-fleetctl-logprobs"
CHOICES: Final = "x-fleetctl-choices"
TOOLS: Final = "x-fleetctl-tools"
STORED: Final = {
    "previous_response_id": "x-fleetctl-previous-response-id",
    "conversation": "x-fleetctl-conversation",
    "background": "x-fleetctl-background",
}
"""Headers of what reads or leaves behind a conversation on the server, by field."""

_NULL: Final = (
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "prompt_logprobs",
    "prompt_embeds",
    "session_id",
    "chat_template",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "return_mm_kwargs",
    "stream_interval",
)
_USUAL: Final[Json] = {
    "model": f"%FILTER_STATE({VERSION_STATE}:PLAIN)%",
    "cache_salt": f"%FILTER_STATE({CLIENT_STATE}:PLAIN)%",
    "request_id": "%REQ(x-request-id)%",
    "priority": 0,
    "mm_payload": "tensors",
    "routed_experts_prompt_start": 0,
    "enable_response_messages": False,
    **dict.fromkeys(_NULL),
}
"""The version's name; and fields that cross tenants or cost others, as vLLM has them where they
are not given."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, or several that are treated alike."""

    name: str
    path: str
    """Regular expression of the whole path."""
    read: Mapping[str, str] = field(default_factory=dict)
    """Header to the field of the body that it is taken from, beside what every path has."""
    written: Json = field(default_factory=lambda: _USUAL)
    """Fields of the body that the server gets."""
    streamed: Json = field(default_factory=dict)
    """Further ones where a stream is asked for."""

    @property
    def variants(self) -> Mapping[str, tuple[Json, bool | None]]:
        """What is written, by name of the filter that writes it; and whether for streams only.

        None: whether a stream is asked for or not.
        """
        name = f"fleetctl.rewriting.{self.name}"
        if not self.streamed:
            return {name: (self.written, None)}
        return {
            name: (self.written, False),
            f"{name}.stream": (self.written | self.streamed, True),
        }

    @property
    def reading(self) -> str:
        """Name of the filter that reads its bodies."""
        return f"fleetctl.reading.{self.name}"


_COUNTED: Final[Json] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
ENDPOINTS: Final = (
    Endpoint(
        "completions",
        "/v1/(chat/)?completions",
        {ECHOED: "echo", LOGPROBS: "logprobs", CHOICES: "n"},
        streamed=_COUNTED,
    ),
    Endpoint(
        "responses",
        "/v1/responses",
        {TOOLS: "tools", **{header: name for name, header in STORED.items()}},
        written=_USUAL | {"store": False, "request_id": "resp_%REQ(x-request-id)%"},
    ),
    Endpoint("messages", "/v1/messages"),
    Endpoint("embeddings", "/v1/embeddings"),
)
SERVED: Final = "|".join(each.path for each in ENDPOINTS)
"""All of their paths, as a regular expression."""
READ: Final = tuple({name: None for each in ENDPOINTS for name in each.read})
"""All headers that they read fields into."""

_OWN_TOOLS: Final = ("custom", "function")
"""Kinds of tools that the client runs itself; others make the server call somebody."""
_SCHEMAS: Final = (
    "array", "boolean", "integer", "null", "number", "object", "string",
    "grammar", "text",
)  # fmt: skip
"""What else is called `type` inside of tools: in their JSON Schemas, and in their formats."""
FOREIGN_TOOLS: Final = rf"""(?s).*"type" ?: ?"{other_words((*_OWN_TOOLS, *_SCHEMAS), '"')}".*"""
"""Tools among which one may be the server's, as a regular expression of all of them as JSON.

Envoy's expressions cannot count brackets, so each `type` must be one of a tool or a schema.
"""
