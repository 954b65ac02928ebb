"""Who gets an answer."""

from typing import Final, Protocol

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

    def send(self, data: bytes) -> None:
        """Drop it."""

    def reply(self, answer: Answer) -> None:
        """Drop it."""

    def pass_back(self, start: bytes, request_id: str, body: bytes) -> None:
        """Drop it."""

    def send_head(self, status: int, headers: dict[str, str]) -> bool:  # noqa: ARG002 (a Client)
        """Drop it."""
        return False

    def finish(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to do."""


NOBODY: Final = Nobody()
