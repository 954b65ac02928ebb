"""Error answers of the gateway itself, in the shape of OpenAI's and of Anthropic's API."""

import sys
import traceback
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec

_API_ERROR: Final = "api_error"
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


class ApiError(Exception):
    """An error answer that the gateway gives instead of a server.

    Texts are constant: an error repeats nothing of the request, so that no error shows whether a
    name exists at another client.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        kind: str,
        *,
        code: str | None = None,
        parameter: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.parameter = parameter
        self.retry_after_s = retry_after_s

    @property
    def document(self) -> dict[str, object]:
        """The error as a document of OpenAI's API."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.parameter,
                "code": self.code,
            }
        }

    @property
    def body(self) -> bytes:
        """The error as JSON of OpenAI's API."""
        return msgspec.json.encode(self.document)

    @property
    def anthropic_body(self) -> bytes:
        """The error as JSON of Anthropic's API, which `/v1/messages` belongs to."""
        kind = _ANTHROPIC_TYPES.get(self.status, _API_ERROR)
        return msgspec.json.encode(
            {"type": "error", "error": {"type": kind, "message": self.message}}
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        found = {"Content-Type": "application/json"}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            found["WWW-Authenticate"] = "Bearer"
        return found


class _SameOnEveryPathError(ApiError):
    """An error that has the same bytes on every path.

    The shape is OpenAI's; a `type` beside `error` makes the same document one of Anthropic's.
    """

    @property
    def document(self) -> dict[str, object]:
        return {"type": "error", **super().document}

    @property
    def anthropic_body(self) -> bytes:
        return self.body


def invalid(message: str, parameter: str | None = None) -> ApiError:
    """Return 400: the request is wrong; `parameter` names the field."""
    kind = "invalid_request_error"
    return ApiError(HTTPStatus.BAD_REQUEST, message, kind, parameter=parameter)


def unauthorized() -> ApiError:
    """Return 401, the same for no key, a revoked key and an unknown key."""
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "Incorrect or missing API key. Send it once, as `Authorization: Bearer KEY` or "
        "`x-api-key: KEY`.",
        "invalid_request_error",
        code="invalid_api_key",
    )


def no_such_model() -> ApiError:
    """Return 404, the same for an unknown model, another client's and the name of a version."""
    return _SameOnEveryPathError(
        HTTPStatus.NOT_FOUND,
        "The model does not exist or you do not have access to it. GET /v1/models lists yours.",
        "invalid_request_error",
        code="model_not_found",
        parameter="model",
    )


def no_such_path() -> ApiError:
    """Return 404: the gateway does not serve the path."""
    kind = "invalid_request_error"
    return ApiError(HTTPStatus.NOT_FOUND, "No such path.", kind, code="unknown_url")


def not_served() -> ApiError:
    """Return 404: the base of this model does not serve the path."""
    kind = "invalid_request_error"
    message = "This model does not answer on this path."
    return ApiError(HTTPStatus.NOT_FOUND, message, kind, code="unknown_url")


def wrong_method() -> ApiError:
    """Return 405: the path takes another method."""
    message = "This path does not take this method."
    return ApiError(HTTPStatus.METHOD_NOT_ALLOWED, message, "invalid_request_error")


def too_large(limit: int) -> ApiError:
    """Return 413: the body has more than `limit` bytes."""
    message = f"The request body is larger than {limit} bytes."
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "invalid_request_error")


def head_too_large(limit: int) -> ApiError:
    """Return 431: request line and headers have more than `limit` bytes."""
    message = f"The request's headers are larger than {limit} bytes."
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return ApiError(status, message, "invalid_request_error")


def unclear_length() -> ApiError:
    """Return 400: two readers could see the request end at different places."""
    return invalid("The request does not say clearly where it ends.")


def no_server(retry_after_s: int) -> ApiError:
    """Return 503: no server that holds the version took the request, and none has worked on it."""
    message = "No server can answer for this model right now. Please retry."
    return _retry(message, "unavailable", retry_after_s)


def no_memory() -> ApiError:
    """Return 503: bodies of requests fill their memory budget."""
    return _retry("Too many large requests at the moment. Please retry.", "overloaded", 1)


def no_connection() -> ApiError:
    """Return 503: the limit on open files leaves no room for another connection."""
    return _retry("Too many connections are open. Please retry.", "unavailable", 2)


def _retry(message: str, code: str, retry_after_s: int) -> ApiError:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return ApiError(status, message, "server_error", code=code, retry_after_s=retry_after_s)


def usage_log_down() -> ApiError:
    """Return 503: the usage log cannot be written, and a request without a row gets no answer."""
    message = "The gateway cannot keep its records right now. Please retry."
    return _retry(message, "unavailable", 2)


def not_ready() -> ApiError:
    """Return 503: the gateway has no routing table yet, or is about to stop."""
    message = "The gateway is not ready."
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, "server_error", code="unready")


def too_many(retry_after_s: int) -> ApiError:
    """Return 429: a limit is reached; the answer does not say which limit."""
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests at the moment. Please retry after the time given.",
        "rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=max(1, retry_after_s),
    )


def timed_out() -> ApiError:
    """Return 504: the server took the request, may work on it, and did not answer in time."""
    message = "The server did not answer in time."
    return ApiError(HTTPStatus.GATEWAY_TIMEOUT, message, "server_error", code="timeout")


def broke_off() -> ApiError:
    """Return 502: the server took the request, may have worked on it, and broke off."""
    message = "The server broke off before it answered."
    return ApiError(HTTPStatus.BAD_GATEWAY, message, "server_error", code="bad_gateway")


def defect() -> ApiError:
    """Return 500: a defect of the gateway; the log of the process has the traceback."""
    message = "The gateway failed on this request."
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "server_error")


def as_api_error(error: Exception) -> ApiError:
    """Return an error as the client sees it; a defect of the gateway is logged and becomes 500."""
    if isinstance(error, ApiError):
        return error
    log_exception(error)
    return defect()


def log_exception(error: BaseException) -> None:
    """Write the traceback of an error to the log of the process."""
    log_line("".join(traceback.format_exception(error)))


def log_line(text: str) -> None:
    """Write a text to the log of the process; a full disk, where the log may lie, is no error."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        sys.stderr.flush()
