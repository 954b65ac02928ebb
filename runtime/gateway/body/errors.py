"""Error answers of the gateway itself, in the shape of OpenAI's and of Anthropic's API."""

import math
import re
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec

_ANTHROPIC_TYPES: Final = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
"""Types of Anthropic's API; `api_error` for any other status."""


@dataclass(eq=False)
class ApiError(Exception):
    """An error answer that the gateway gives instead of a server.

    Texts are constant: an error repeats nothing of the request, so that no error shows whether a
    name exists at another client. `same_everywhere`: the bytes are the same on every path, namely
    OpenAI's shape, which a `type` beside `error` makes one of Anthropic's too.
    """

    status: HTTPStatus
    message: str
    code: str | None = None
    parameter: str | None = None
    retry_after_s: int | None = None
    same_everywhere: bool = False

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> bytes:
        """The error as JSON of OpenAI's API."""
        kind = "invalid_request_error"
        if self.status is HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rate_limit_error"
        elif self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = "server_error"
        error = {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}
        marked = {"type": "error"} if self.same_everywhere else {}
        return msgspec.json.encode({**marked, "error": error})

    @property
    def anthropic_body(self) -> bytes:
        """The error as JSON of Anthropic's API, which `/v1/messages` belongs to."""
        if self.same_everywhere:
            return self.body
        error = {"type": _ANTHROPIC_TYPES.get(self.status, "api_error"), "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error})

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {"Content-Type": "application/json"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def invalid(message: str, parameter: str | None = None) -> ApiError:
    """Return 400: the request is wrong; `parameter` names the field."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, parameter=parameter)


def too_large(limit: int) -> ApiError:
    """Return 413: the body has more than `limit` bytes."""
    message = f"The request body is larger than {limit} bytes."
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def too_many(retry_after_s: int) -> ApiError:
    """Return 429: a limit is reached; the answer does not say which limit."""
    message = "Too many requests at the moment. Please retry after the time given."
    code, wait_s = "rate_limit_exceeded", max(1, retry_after_s)
    return ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code=code, retry_after_s=wait_s)


def budget_used_up(left_s: float) -> ApiError:
    """Return 429: the client's or the alias's requests or tokens of this month are used up."""
    message = "The budget of this month is used up. Please ask your provider."
    code, wait_s = "insufficient_quota", max(1, math.ceil(left_s))
    return ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code=code, retry_after_s=wait_s)


def head_too_large(limit: int) -> ApiError:
    """Return 431: request line and headers have more than `limit` bytes."""
    message = f"The request's headers are larger than {limit} bytes."
    return ApiError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)


_REFUSALS: Final = {
    b"--tool-call-parser": invalid(
        "This model calls no tools. Leave `tools` out, or send `tool_choice` as `none`.", "tools"
    ),
    b"is not a multimodal model": invalid(
        "This model reads text alone: no images, sound or video.", "messages"
    ),
}
"""By a part of vLLM's text: refusals that speak of the server's flags or name its base."""


_CONTEXT: Final = re.compile(rb"maximum context length (?:is |\()(\d{1,12})")
_ENDING: Final = (b"Internal server error", b"EngineCore")
"""Parts of vLLM's 500 while the server drains, or once the engine has ended."""


def refusal_of_server(status: int, body: bytes) -> ApiError | None:
    """Return the gateway's words in place of a server's error; None: the server's own text."""
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and any(part in body for part in _ENDING):
        return no_server()
    if status != HTTPStatus.BAD_REQUEST:
        return None
    if context := _CONTEXT.search(body):
        return too_long(int(context[1]))
    return next((error for part, error in _REFUSALS.items() if part in body), None)


def too_long(tokens: int) -> ApiError:
    """Return 400: prompt and answer have more tokens than the model's context."""
    message = f"This model's context is {tokens} tokens. Shorten the prompt, or ask for less."
    return ApiError(HTTPStatus.BAD_REQUEST, message, code="context_length_exceeded")


def _retry(message: str, code: str, retry_after_s: int) -> ApiError:
    message = f"{message} Please retry."
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return ApiError(status, message, code=code, retry_after_s=retry_after_s)


unclear_length: Final = partial(invalid, "The request does not say clearly where it ends.")
"""400: two readers could see the request end at different places."""
unclear_host: Final = partial(
    invalid, "The request needs one Host header, and version 1.1 of HTTP."
)
"""400: no Host or several, or another protocol in the request's first line."""
unauthorized: Final = partial(
    ApiError,
    HTTPStatus.UNAUTHORIZED,
    "Incorrect or missing API key. Send it once, as `Authorization: Bearer KEY` or "
    "`x-api-key: KEY`; a key in the URL is not read.",
    code="invalid_api_key",
)
"""401, the same for no key, a revoked key and an unknown key."""
no_such_model: Final = partial(
    ApiError,
    HTTPStatus.NOT_FOUND,
    "The model does not exist or you do not have access to it. GET /v1/models lists yours.",
    code="model_not_found",
    parameter="model",
    same_everywhere=True,
)
"""404, the same for an unknown model, another client's and the name of a version."""
no_such_path: Final = partial(
    ApiError,
    HTTPStatus.NOT_FOUND,
    "No such path. The API is below /v1, such as POST /v1/chat/completions and GET /v1/models.",
    code="unknown_url",
)
not_served: Final = partial(
    ApiError, HTTPStatus.NOT_FOUND, "This model does not answer on this path.", code="unknown_url"
)
"""404: the base of the model does not serve the path."""
wrong_method: Final = partial(
    ApiError,
    HTTPStatus.METHOD_NOT_ALLOWED,
    "This path does not take this method. Requests are sent by POST; models are read by GET.",
)
broke_off: Final = partial(
    ApiError, HTTPStatus.BAD_GATEWAY, "The server broke off before it answered.", code="bad_gateway"
)
"""502: the server took the request, may have worked on it, and broke off."""
answer_too_large: Final = partial(
    ApiError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The answer is larger than the gateway passes on. Ask for less, such as fewer answers.",
    code="answer_too_large",
)
"""413: an answer, or a line of a stream, has more bytes than the gateway keeps. The server, which
did as it was asked, is not blamed."""
no_server: Final = partial(
    _retry, "No server can answer for this model right now.", "unavailable", 2
)
"""503: no server that holds the version took the request, and none has worked on it."""
no_memory: Final = partial(_retry, "Too many large requests at the moment.", "overloaded", 1)
no_connection: Final = partial(_retry, "Too many connections are open.", "unavailable", 2)
"""503: the limit on open files leaves no room for another connection."""
usage_log_down: Final = partial(
    _retry, "The gateway cannot keep its records right now.", "unavailable", 2
)
"""503: the usage log cannot be written, and a request without a row gets no answer."""
not_ready: Final = partial(
    ApiError, HTTPStatus.SERVICE_UNAVAILABLE, "The gateway is not ready.", code="unready"
)
"""503: the gateway has no routing table yet, or is about to stop."""
timed_out: Final = partial(
    ApiError, HTTPStatus.GATEWAY_TIMEOUT, "The server did not answer in time.", code="timeout"
)
"""504: the server took the request, may work on it, and did not answer in time."""


def as_api_error(error: Exception) -> ApiError:
    """Return the error for the client; a defect of the gateway is logged and becomes 500."""
    if isinstance(error, ApiError):
        return error
    log_exception(error)
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway failed on this request.")


def log_exception(error: BaseException) -> None:
    """Write an error's traceback to the log of the process, whose disk may be full."""
    with suppress(OSError, ValueError):
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.flush()
