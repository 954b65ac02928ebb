"""What a client is told when its request is refused: in the shape of the API that it speaks."""

from http import HTTPStatus
from typing import Final

import msgspec

_API_ERROR: Final = "api_error"
_KINDS_OF_MESSAGES: Final = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}


class RefusalError(Exception):
    """A request that no server is asked for.

    Texts are constant: nothing that a client sent is repeated, so that no answer says
    whether a name exists for somebody else.
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
        """Return the document that clients of the OpenAI API expect."""
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
        """Return it as JSON."""
        return msgspec.json.encode(self.document)

    @property
    def body_of_messages(self) -> bytes:
        """Return the JSON document that clients of the Anthropic API expect, which has messages."""
        kind = _KINDS_OF_MESSAGES.get(self.status, _API_ERROR)
        return msgspec.json.encode(
            {"type": "error", "error": {"type": kind, "message": self.message}}
        )

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        found = {"Content-Type": "application/json"}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            found["WWW-Authenticate"] = "Bearer"
        return found


class _OnEachPathError(RefusalError):
    """A refusal that is the same bytes on each path.

    Its shape is OpenAI's, and for the `type` around it clients of the Anthropic API read it too.
    """

    @property
    def document(self) -> dict[str, object]:
        return {"type": "error", **super().document}

    @property
    def body_of_messages(self) -> bytes:
        return self.body


def invalid(message: str, parameter: str | None = None) -> RefusalError:
    """The request itself is wrong."""
    kind = "invalid_request_error"
    return RefusalError(HTTPStatus.BAD_REQUEST, message, kind, parameter=parameter)


def unauthorized() -> RefusalError:
    """No key, a revoked key or one that never existed: one and the same answer."""
    return RefusalError(
        HTTPStatus.UNAUTHORIZED,
        "Incorrect or missing API key. Send it once, as `Authorization: Bearer KEY` or "
        "`x-api-key: KEY`.",
        "invalid_request_error",
        code="invalid_api_key",
    )


def no_such_model() -> RefusalError:
    """Unknown, somebody else's, or the name of a version: one and the same answer, everywhere."""
    return _OnEachPathError(
        HTTPStatus.NOT_FOUND,
        "The model does not exist or you do not have access to it. GET /v1/models lists yours.",
        "invalid_request_error",
        code="model_not_found",
        parameter="model",
    )


def no_such_path() -> RefusalError:
    """The gateway answers a short list of paths and nothing else."""
    kind = "invalid_request_error"
    return RefusalError(HTTPStatus.NOT_FOUND, "No such path.", kind, code="unknown_url")


def not_served() -> RefusalError:
    """The path exists, and the base of this model does not serve it."""
    kind = "invalid_request_error"
    message = "This model does not answer on this path."
    return RefusalError(HTTPStatus.NOT_FOUND, message, kind, code="unknown_url")


def wrong_method() -> RefusalError:
    """The path exists, with another method."""
    message = "This path does not take this method."
    return RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, message, "invalid_request_error")


def too_large(limit: int) -> RefusalError:
    """The body is larger than the gateway reads."""
    message = f"The request body is larger than {limit} bytes."
    return RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "invalid_request_error")


def head_too_large(limit: int) -> RefusalError:
    """The request line and headers are larger than the gateway reads."""
    message = f"The request's headers are larger than {limit} bytes."
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return RefusalError(status, message, "invalid_request_error")


def unclear_length() -> RefusalError:
    """Two readers could see the request end at different places."""
    return invalid("The request does not say clearly where it ends.")


def unavailable(retry_after_s: int) -> RefusalError:
    """No server that holds the version took the request; none has worked on it."""
    message = "No server can answer for this model right now. Please retry."
    return _retry(message, "unavailable", retry_after_s)


def no_room() -> RefusalError:
    """Bodies of requests fill the memory that there is for them."""
    return _retry("Too many large requests at the moment. Please retry.", "overloaded", 1)


def no_connection() -> RefusalError:
    """The limit on open files leaves no room for another connection."""
    return _retry("Too many connections are open. Please retry.", "unavailable", 2)


def _retry(message: str, code: str, retry_after_s: int) -> RefusalError:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return RefusalError(status, message, "server_error", code=code, retry_after_s=retry_after_s)


def unrecorded() -> RefusalError:
    """The usage log cannot be written: what cannot be put on record is not answered."""
    message = "The gateway cannot keep its records right now. Please retry."
    return _retry(message, "unavailable", 2)


def not_ready() -> RefusalError:
    """The gateway has no routing table yet, or is about to stop."""
    message = "The gateway is not ready."
    return RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, message, "server_error", code="unready")


def too_many(retry_after_s: int) -> RefusalError:
    """A limit is reached; which one is the client's business with the operator."""
    return RefusalError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests at the moment. Please retry after the time given.",
        "rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=max(1, retry_after_s),
    )


def late() -> RefusalError:
    """A server took the request and has not begun to answer in time; it may be working on it."""
    message = "The server did not answer in time."
    return RefusalError(HTTPStatus.GATEWAY_TIMEOUT, message, "server_error", code="timeout")


def broken() -> RefusalError:
    """A server took the request and did not answer; it may have worked on it."""
    message = "The server broke off before it answered."
    return RefusalError(HTTPStatus.BAD_GATEWAY, message, "server_error", code="bad_gateway")


def failed() -> RefusalError:
    """A defect of the gateway itself; the log has the details."""
    message = "The gateway failed on this request."
    return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "server_error")
