"""Mistakes of a client's developer, who has an address and a key."""

from tests.mistakes.case import Mistake

URL = "http://127.0.0.1:8080/v1"
_JSON = "-H 'Content-Type: application/json'"
_KEY = '-H "Authorization: Bearer $KEY"'


def _asked(model: str = "acme-support") -> str:
    return f'\'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''


def _curl(headers: str, body: str = "", path: str = "/chat/completions", url: str = URL) -> str:
    return " ".join(filter(None, ("curl", headers, body and f"-d {body}", f"{url}{path}")))


_NO_KEY = ("Incorrect or missing API key", "invalid_api_key")
_NO_MODEL = (
    "The model does not exist", '"param":"model"', "or you do not have access to it",
    "GET /v1/models lists yours",
)  # fmt: skip

MISTAKES = [
    Mistake(
        "no key", _curl(_JSON, _asked()), 401, *_NO_KEY, "", "`Authorization: Bearer KEY`",
    ),
    Mistake(
        "a wrong key", _curl(f"{_JSON} -H 'Authorization: Bearer sk-1'", _asked()), 401, *_NO_KEY,
        "",
        "`Authorization: Bearer KEY` or `x-api-key: KEY`",
    ),
    Mistake(
        "the key in the URL", _curl("", "", "/models?api_key=$KEY"), 401, *_NO_KEY,
        "a key in the URL is not read", "Send it once, as `Authorization: Bearer KEY`",
    ),
    Mistake("a model with a typo", _curl(f"{_KEY} {_JSON}", _asked("acme-suport")), 404,
    *_NO_MODEL),
    Mistake("another client's model", _curl(f"{_KEY} {_JSON}", _asked("birch-units")), 404,
    *_NO_MODEL),
    Mistake("the base as a model", _curl(f"{_KEY} {_JSON}", _asked("tiny")), 404, *_NO_MODEL),
    Mistake(
        "no model", _curl(f"{_KEY} {_JSON}", "'{\"messages\": []}'"), 400,
        "The request body names no model", '"param":"model"', "", "GET /v1/models lists yours",
    ),
    Mistake(
        "a body without its type, as curl sends it", _curl(_KEY, _asked()), 400,
        "Send the body as JSON in UTF-8", "invalid_request_error", "",
        "`Content-Type: application/json`",
    ),
    Mistake(
        "a body that is not JSON", _curl(f"{_KEY} {_JSON}", "'{model: acme-support}'"), 400,
        "The request body is not a JSON object", "invalid_request_error", "",
        "look at its quotes and commas",
    ),
    Mistake(
        "an address without `/v1`",
        _curl(f"{_KEY} {_JSON}", _asked(), url="http://127.0.0.1:8080"), 404,
        "No such path", "unknown_url", "The API is below /v1", "POST /v1/chat/completions",
    ),
    Mistake(
        "a question by GET", _curl(_KEY), 405,
        "This path does not take this method", "invalid_request_error", "",
        "Requests are sent by POST",
    ),
]  # fmt: skip
