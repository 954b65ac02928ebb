"""Going on while declarations are broken: by those that were valid last, else by the sound files.

Whoever watches over a fleet must not stop for a slip in one client's file. It moves nothing on
by what it cannot read: it only heals, and takes back what has failed.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import click

from fleet.errors import ConfigError
from fleet.spec import FleetSpec
from fleetctl.session import Session
from plans.diagnostics import render_text
from runtime.project.load import MAIN, load_project


@dataclass(slots=True)
class LastValid:
    """The declarations as each round of a process finds them."""

    _last: tuple[FleetSpec, datetime] | None = None

    def now(self, session: Session) -> tuple[Session, bool]:
        """Return a session that reads the files anew, and whether they are valid.

        Where they are not, its fleet is the last that was; what is wrong is printed.

        Raises:
            ConfigError: they never were in this process, and `fleet.yaml` itself is broken.
        """
        fresh = replace(session)
        try:
            self._last = fresh.fleet(), fresh.now()
        except ConfigError as error:
            if self._last is None:
                return sound(session, error), False
            fleet, when = self._last
            _tell(error, f"by the declarations of {when:%Y-%m-%d %H:%M:%S} UTC")
            return replace(session, given=fleet), False
        return fresh, True


def sound(session: Session, error: ConfigError) -> Session:
    """Return a session whose fleet is what the files without an error declare.

    Raises:
        ConfigError: the error itself, where it is in `fleet.yaml` or in no file.
    """
    out: set[str] = set()
    found = error
    while True:
        wrong = {each.place.file for each in found.diagnostics if each.place} - out
        if not wrong or MAIN in wrong:
            raise error
        out |= wrong
        try:
            rest = load_project(
                session.root,
                session.environment,
                session.variables,
                session.state_dir,
                frozenset(out),
            )
        except ConfigError as more:
            found = more
            continue
        _tell(error, f"by the files that are sound, without {', '.join(sorted(out))}")
        return replace(session, given=rest.fleet)


def _tell(error: ConfigError, how: str) -> None:
    click.echo(render_text(error.diagnostics), err=True, nl=False)
    click.echo(
        f"Warning: the declarations are broken, so nothing new is deployed and no rollout moves "
        f"on. Goes {how}.",
        err=True,
    )
