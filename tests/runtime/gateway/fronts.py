"""The fronts of the fake servers in a test: our gateway, or a real Envoy."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.runtime.gateway.envoy_stage import EnvoyStage, envoy_stage
from tests.runtime.gateway.probes import PROBES, STATUSES, Outcome, Probe
from tests.runtime.gateway.replay import Answer
from tests.runtime.gateway.stage import ACME, Stage, stage

OURS, ENVOY = "gateway", "envoy"
TOLERATED = {"a charset", "an encoding", "single quotes"} | {
    each.name
    for each in PROBES
    if {("Authorization", ACME), ("X-Api-Key", f"Bearer {ACME}")} & {*each.headers}
}
"""Probes that our gateway refuses and Envoy serves by a version of the client's own: what the body
is said to be, JSON in single quotes, and its key without `Bearer`, or with it where none is due."""
_UNREADABLE = {Outcome.REFUSED, Outcome.UNCLEAR, Outcome.TOO_LARGE}


@dataclass(frozen=True)
class Front:
    """A front, by its name."""

    name: str

    @property
    def is_envoy(self) -> bool:
        return self.name == ENVOY

    def stage(
        self, project: Path, **how: Any
    ) -> AbstractAsyncContextManager[Stage] | AbstractAsyncContextManager[EnvoyStage]:
        """Run the front before fake servers; arguments as of `stage`."""
        if self.is_envoy:
            return envoy_stage(project, **how)
        return stage(project / ".fleetctl", **how)

    def serves(self, probe: Probe) -> bool:
        """Say whether a server is asked for a version of the client's own."""
        return probe.outcome is Outcome.SERVED or (self.is_envoy and probe.name in TOLERATED)

    def is_as_expected(self, probe: Probe, answer: Answer) -> bool:
        """Return whether a probe got the expected answer; Envoy may refuse otherwise or hang up."""
        if self.is_envoy and probe.name in TOLERATED:
            return answer.count == 1
        if self.is_envoy and probe.outcome in _UNREADABLE:
            return answer.count <= 1 and (answer.status == 0 or answer.status >= 400)
        return answer.count <= 1 and answer.status in STATUSES[probe.outcome]
