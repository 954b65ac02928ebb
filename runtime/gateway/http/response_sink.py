"""The side of a request that takes the response."""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.gateway.app import LocalResponse


class ResponseSink:
    """The receiver of the response to a request; drops the response unless a method is replaced."""

    def send(self, data: bytes) -> None:
        """Send bytes of a stream."""

    def respond(self, response: LocalResponse) -> None:  # noqa: ARG002 (dropped)
        """Send a response of the gateway's own; the request is over."""
        self.finish()

    def relay(self, start: bytes, shown: str, body: bytes) -> None:  # noqa: ARG002 (dropped)
        """Send a server's complete response; the request is over.

        `start`: of its head, `relayed_start`; `shown`: the request's id, and further headers.
        """
        self.finish()

    def start_stream(self, status: int, headers: dict[str, str]) -> bool:  # noqa: ARG002 (dropped)
        """Send the head of a stream; return whether its parts are to be chunks."""
        return False

    def finish(self) -> None:
        """Note that the stream is complete; the request is over."""

    def abort(self) -> None:
        """End the connection in the middle of the response; the request is over."""
        self.finish()


@dataclass(slots=True)
class NullClient(ResponseSink):
    """The client of a shadow request; `on_end` is called when the request is over."""

    _on_end: Callable[[], None]

    def finish(self) -> None:
        """Note that the request is over."""
        self._on_end()
