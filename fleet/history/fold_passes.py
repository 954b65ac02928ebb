"""Folds the smoke tests that versions passed: for bytes, on a server, in a launch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.encoding import optional
from fleet.history.apply_events import Document, StepFinished, StepStarted
from fleet.history.fold_traffic import TrafficFold
from fleet.names import adapter_of_address, name_in_address, server_of_address


@dataclass(frozen=True, slots=True)
class SmokePass:
    """A smoke test that a version passed on a server."""

    digest: str | None
    """Of the bytes that answered; None: loaded from elsewhere."""
    launch: str | None = optional()
    """Launch that answered, or boot. None: the server shows neither, or an earlier release tested;
    then the pass counts until a step starts or stops the server."""


@dataclass(slots=True)
class PassesFold(TrafficFold):
    """Passes and restarts while entries are being added; the fields are those of `History`."""

    passes: dict[str, Mapping[str, SmokePass]] = field(default_factory=dict)
    returning: set[str] = field(default_factory=set)

    def tried(self, event: StepStarted | StepFinished, operation: Document) -> None:
        """Take the begin or the success of a step.

        A version that is loaded or asked anew has no pass until the end of its smoke test, so that
        a test that fails, or whose run is killed, leaves none.
        """
        name = name_in_address(event.address)
        match event, operation:
            case StepStarted(), {"verb": "start" | "stop"}:
                self.passes.pop(name, None)
                self.returning.add(name)
            case StepFinished(), {"verb": "start" | "stop"} if not operation.get("again"):
                self.returning.discard(name)
            case StepStarted(), {"verb": "load" | "unload" | "smoke"}:
                self._put(event.address, None)
            case StepFinished(), {"verb": "smoke", "adapter": {"digest": str() | None as digest}}:
                self._put(event.address, SmokePass(digest, event.launch))
            case _:
                pass

    def _put(self, address: str, passed: SmokePass | None) -> None:
        server, adapter = server_of_address(address), adapter_of_address(address)
        others = {n: p for n, p in self.passes.get(server, {}).items() if n != adapter}
        self.passes[server] = {**others, **({adapter: passed} if passed else {})}
