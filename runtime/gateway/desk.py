"""What the gateway decides, whatever carries its requests: who asks, and for what.

A transport reads requests and writes answers; the rest is here and in `exchange`. Nothing
here waits, and nothing here knows a socket.
"""

from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from runtime.gateway import refusals
from runtime.gateway.authentication import Proof
from runtime.gateway.bodies import Bodies
from runtime.gateway.endpoints import MESSAGES, PATHS
from runtime.gateway.exchange import Exchange
from runtime.gateway.refusals import RefusalError
from runtime.gateway.rows import Rows
from runtime.gateway.shared import Shared
from runtime.usage.row import UsageRecorder

MAX_BODY: Final = 16 * 2**20
"""Largest request body in bytes."""
COMPLETIONS: Final = PATHS
"""Where an adapter answers."""
_MODELS: Final = "/v1/models"
_HEALTH: Final = "/healthz"
_READY: Final = "/readyz"
_JSON: Final = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """An answer that no server was asked for."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, refusal: RefusalError, path: str, request_id: str = "") -> "Answer":
        """Return the answer that tells a client of a refusal, as the API of `path` has it.

        Args:
            refusal: What it is told.
            path: That it asked.
            request_id: Of the usage row; empty: there is none.
        """
        body = refusal.body_of_messages if path == MESSAGES else refusal.body
        numbered = {"x-request-id": request_id} if request_id else {}
        return cls(refusal.status, refusal.headers | numbered, body)


class Desk:
    """Where every request of one gateway process is received."""

    def __init__(self, shared: Shared) -> None:
        """Wire up."""
        self._shared = shared
        self._current = shared.current

    def begin(self, path: str, proof: Proof) -> Exchange:
        """Begin a request for completions; its usage row is due from here on.

        A key that opens nothing is for `Exchange.admit` to refuse.

        Raises:
            RefusalError: 503: rows cannot be written at the moment.
        """
        shared = self._shared
        if shared.log.is_refusing:
            raise refusals.unrecorded()
        record = UsageRecorder(shared.rows.add, path, self._current.lookup.revision)
        return Exchange(shared, path, record, proof)

    @property
    def bodies(self) -> Bodies:
        """What is held in memory of requests and answers."""
        return self._shared.bodies

    @property
    def rows(self) -> Rows:
        """Where usage rows go."""
        return self._shared.rows

    def answer(self, method: str, path: str, proof: Proof) -> Answer:
        """Return the answer to any request that is not one for completions.

        Args:
            method: In capitals.
            path: As sent, without its query.
            proof: Of who asks.
        """
        try:
            return self._page(method, path, proof)
        except RefusalError as error:
            return Answer.of(error, path)

    def _page(self, method: str, path: str, proof: Proof) -> Answer:
        if path not in COMPLETIONS and path not in {_HEALTH, _READY, _MODELS} and not _model(path):
            raise refusals.no_such_path()
        if path in COMPLETIONS or method not in {"GET", "HEAD"}:
            raise refusals.wrong_method()
        if path == _HEALTH:
            return _json({"status": "ok"})
        if path == _READY:
            if not self._shared.is_ready:
                raise refusals.not_ready()
            return _json({"ready": True})
        lookup = self._current.lookup
        client = proof.asker(lookup, b"").client
        own = lookup.aliases(client)
        if path == _MODELS:
            return _json({"object": "list", "data": [self._card(each, client) for each in own]})
        if _model(path) not in own:
            raise refusals.no_such_model()
        return _json(self._card(_model(path), client))

    def _card(self, alias: str, client: str) -> dict[str, object]:
        created = int(self._current.loaded_at.timestamp())
        return {"id": alias, "object": "model", "created": created, "owned_by": client}


def _model(path: str) -> str:
    """Return the model that a path names, empty if it names none."""
    before, _, name = path.rpartition("/")
    return unquote(name) if before == _MODELS else ""


def _json(document: object) -> Answer:
    return Answer(HTTPStatus.OK, _JSON, msgspec.json.encode(document))
