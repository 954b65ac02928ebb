"""Who gets an answer."""

from collections.abc import Callable
from typing import Protocol

from runtime.gateway.desk import Answer


class Client(Protocol):
    """A client's connection, as far as a conversation needs it."""

    def send(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def reply(self, answer: Answer) -> None:
        """Send a whole answer; the conversation is over."""

    def pass_back(self, start: bytes, request_id: str, body: bytes) -> None:
        """Send a server's whole answer, its head as `heads.answer_start` begins it; as `reply`."""

    def send_head(self, status: int, headers: dict[str, str]) -> bool:
        """Send the head of a stream; return whether its parts are to be chunks."""
        ...

    def finish(self) -> None:
        """The answer is complete; the conversation is over."""

    def abort(self) -> None:
        """End the connection in the middle of the answer; the conversation is over."""


class Nobody:
    """Who reads the answer to a shadow request. Keeps `Client`."""

    __slots__ = ("_over",)

    def __init__(self, over: Callable[[], None]) -> None:
        """Prepare; `over` is called once the conversation is over."""
        self._over = over

    def send(self, data: bytes) -> None:
        """Drop it."""

    def reply(self, answer: Answer) -> None:  # noqa: ARG002 (a Client)
        """Drop it."""
        self._over()

    def pass_back(self, start: bytes, request_id: str, body: bytes) -> None:  # noqa: ARG002
        """Drop it."""
        self._over()

    def send_head(self, status: int, headers: dict[str, str]) -> bool:  # noqa: ARG002
        """Drop it."""
        return False

    def finish(self) -> None:
        """Nothing is left to do."""
        self._over()

    def abort(self) -> None:
        """Nothing is left to do."""
        self._over()
