"""The project of a call: what it was given, and its declarations, ledger and machines.

Plans nothing. `runtime.operations` takes a workspace, or one context of it, and does the work of a
command. Renderers and printers are handed in, so that nothing here imports `plans` or `fleetctl`.
"""

from dataclasses import dataclass
from functools import cached_property

from runtime.backup.restore import finish_restore
from runtime.state_folder import require_private
from runtime.workspace.call import Call
from runtime.workspace.ledger import LedgerContext
from runtime.workspace.machines import MachinesContext
from runtime.workspace.project import ProjectContext

__all__ = ["Call", "LedgerContext", "MachinesContext", "ProjectContext", "Workspace"]


@dataclass
class Workspace(Call):
    """A call and its three contexts, each made on first use.

    A copy by `dataclasses.replace` makes its own, and so reads everything anew.
    """

    def __post_init__(self) -> None:
        require_private(self.state_dir)
        finish_restore(self.state_dir)

    @cached_property
    def project(self) -> ProjectContext:
        """The declarations."""
        return ProjectContext(self, self.ledger.pull, self.ledger.history)

    @cached_property
    def ledger(self) -> LedgerContext:
        """The record of what was done, and the files that other checkouts share."""
        return LedgerContext(self, lambda: self.project.home)

    @cached_property
    def machines(self) -> MachinesContext:
        """The servers and gateways."""
        return MachinesContext(self, self.project, self.ledger)
