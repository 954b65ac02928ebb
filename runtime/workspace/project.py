"""The declarations of a call's project: read and checked on first use."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.errors import FleetError, did_you_mean
from fleet.hardware import HostSpec
from fleet.history import History
from fleet.spec import FleetSpec
from runtime.observe import known_hosts, with_removed
from runtime.state.home import HomeAddress, remember_home, remembered_home
from runtime.workspace.call import Call

if TYPE_CHECKING:  # a rollback works while declarations cannot be read
    from runtime.project.load import Project


class ProjectContext:
    """The declarations: the fleet, the clients set aside, and the home that all checkouts share."""

    def __init__(
        self, call: Call, pull: Callable[[], None], history: Callable[[], History]
    ) -> None:
        """Read nothing yet.

        Args:
            call: Says what to read; `set_aside` changes the clients that it sets aside.
            pull: Takes over what other checkouts have changed, before hosts are read.
            history: Reads the ledger, for what is served of clients set aside.
        """
        self._call, self._pull, self._history = call, pull, history

    def fleet(self) -> FleetSpec:
        """Return the declared fleet; raises `ConfigError` with every problem."""
        return self._fleet

    @cached_property
    def _fleet(self) -> FleetSpec:
        if self._call.given is not None:
            return self._call.given
        return self.with_removed(self.load().fleet)

    def with_removed(self, fleet: FleetSpec) -> FleetSpec:
        """Return a fleet with the hosts that left its declarations and may have servers."""
        return with_removed(fleet, self.known_hosts())

    def known_hosts(self) -> Mapping[str, HostSpec]:
        """Return the hosts that are known to have servers, declared or not."""
        self._pull()
        return known_hosts(self._call.state_dir) if self._call.hosts is None else self._call.hosts

    def require_client(self, client: str | None) -> None:
        """Raise FC5122 where a client is named that is not declared."""
        declared = self.fleet().clients
        if client is not None and client not in declared:
            near = did_you_mean(client, sorted(declared))
            raise FleetError.of(
                "FC5122", "No such client", f"`{client}` is not declared.", hint=near
            )

    def load(self, edited: Mapping[str, str] = MappingProxyType({})) -> "Project":
        """Read and check the declarations; raises `ConfigError` with every problem.

        `edited`: texts by file that are taken in place of those on disk.
        """
        from runtime.project import load, set_aside  # noqa: PLC0415 (a rollback needs no fleet)

        call = self._call
        secrets = os.environ if call.offline is None else None
        declared = call.root, call.environment, call.variables
        read = partial(load.load_project, *declared, secrets, edited, call.state_dir)
        return set_aside.load_set_aside(
            read, call.root, self._history, call.aside, more=call.without_broken
        )

    def set_aside(self, clients: Mapping[str, str]) -> None:
        """Set further clients aside, with the reasons by client; the fleet is read anew."""
        if clients:
            self._call.aside = {**clients, **self._call.aside}
            vars(self).pop("_fleet", None)

    @cached_property
    def home(self) -> HomeAddress:
        """The declared home; the home as last declared, while the declarations are broken."""
        from runtime.project.load import declared_home  # noqa: PLC0415 (a rollback needs no fleet)

        call = self._call
        if call.apart:
            return HomeAddress()
        values = os.environ if call.offline is None else {}
        try:
            declared = declared_home(call.root, call.environment, call.variables, values)
            remember_home(call.state_dir, declared)
        except (FleetError, OSError):
            return remembered_home(call.state_dir)
        return declared
