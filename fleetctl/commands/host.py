"""`fleetctl host`: check and prepare the hosts that are reached by SSH."""

import sys
from typing import TYPE_CHECKING

import click

from fleetctl import completion
from fleetctl.options import Group, Workspace, with_format
from fleetctl.output import print_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.hardware import HostSpec
    from fleet.hosts import HostFinding

_name = click.argument("name", metavar="HOST", shell_complete=completion.ssh_hosts)


@click.group(cls=Group)
def command() -> None:
    """Check and prepare hosts of engine `ssh`.

    Examples:
      fleetctl host check box1
      fleetctl host prepare box1 --dry-run
    """


@command.command()
@_name
@with_format
def check(workspace: Workspace, *, name: str, form: str) -> None:
    """Show the faults of a host, and the commands that help. Changes nothing.

    Exit 1 if anything is at fault or unknown.

    Examples:
      fleetctl host check box1
      fleetctl host check box1 --format json
    """
    from runtime.operations.machines.hosts import check_host, ssh_host

    host = ssh_host(workspace.project, name)
    _print(host, check_host(workspace.project, host), form)


@command.command()
@_name
@click.option("--dry-run", is_flag=True, help="Print the commands for the host; run none.")
@click.pass_obj
def prepare(workspace: Workspace, *, name: str, dry_run: bool) -> None:
    """Make folders on a host and install vLLM and its plug-in there, then check the host.

    Only what is missing; a vLLM that is there is never changed. Nothing is done as root: the
    check shows such commands. Interrupted, it goes on when run again.

    Examples:
      fleetctl host prepare box1 --dry-run
      fleetctl host prepare box1
    """
    from runtime.operations.machines.hosts import due_steps, prepare_host, ssh_host

    host = ssh_host(workspace.project, name)
    steps = due_steps(workspace.project, host)
    if not steps:
        click.echo(f"`{name}` is prepared: nothing to do.", err=True)
    if dry_run:
        click.echo("\n".join(step.shown(name) for step in steps), nl=False)
    else:
        _print(host, prepare_host(workspace, host, steps), "text")


def _print(host: "HostSpec", findings: "Sequence[HostFinding]", form: str) -> None:
    from plans.reports.status import host_document, render_checks

    print_result(form, host_document(host, findings), render_checks)
    if any(finding.verdict in ("fault", "unknown") for finding in findings):
        sys.exit(1)
