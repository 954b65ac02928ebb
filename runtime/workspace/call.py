"""What a command was called with, and who runs it: folders, options, printers, clock."""

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fleet.hardware import HostSpec
from fleet.history import Audience, History
from fleet.spec import FleetSpec, NotifyEvent
from runtime.messages import EmitMessage, Message, Severity

if TYPE_CHECKING:  # a rollback works while engines cannot be imported
    from runtime.gateway.envoy.admin import Envoys

RenderNotice = Callable[[NotifyEvent, Audience, Mapping[str, Any], str], Mapping[str, Any]]
"""Makes the document of a notice; the last argument is the project's own template, or empty."""


@dataclass
class Call:
    """What a command was called with, and who runs it. Reads nothing but the environment."""

    root: Path
    environment: str | None
    variables: Mapping[str, str]
    state_dir: Path
    emit: EmitMessage
    render_notice: RenderNotice
    make_envoys: "Callable[[Path], Envoys]"  # from the project's folder: maker of files of Envoys
    run: str = field(default_factory=lambda: uuid4().hex[:12])  # id, on entries of the ledger
    given: FleetSpec | None = None  # taken for the declared fleet; None: the files are read
    hosts: Mapping[str, HostSpec] | None = None  # taken for `known_hosts`; None: they are read
    past: History | None = None  # taken for the folded ledger; None: the ledger is read
    hung: list[Thread] = field(default_factory=list)  # readings of the ledger that go on; shared
    salvaged: bool = False  # the ledger is damaged; its verified copy is read, for repairs alone
    without_broken: bool = False  # broken clients are set aside, and the rest goes on
    aside: Mapping[str, str] = field(default_factory=dict)  # clients set aside, with the reason
    away: int | None = None
    """Token of the served table while the home is away and its copy read, for restarts in place."""
    offline: str | None = None
    """Why no connection is opened, and no secret and no variable is read; None: they are."""
    drawn_id: str = ""  # of a fleet, drawn by this run; empty: the ledger has it, or none is needed
    author: str = ""  # of this run; empty: found from the environment
    apart: bool = False  # whether the fleet is a copy, and its state folder its only home

    @cached_property
    def by(self) -> str:
        """Author of this run: as given, else the CI job's actor, or user and host."""
        if self.author:
            return self.author
        actor = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN")
        return actor or f"{getpass.getuser()}@{socket.gethostname()}"

    def inform(self, text: str, severity: Severity = "info") -> None:
        """Emit a line."""
        self.emit(Message(text, severity))

    def warn(self, *lines: str) -> None:
        """Emit lines as warnings."""
        for line in lines:
            self.inform(line, "warning")

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)
