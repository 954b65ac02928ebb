"""`fleetctl vllm`: the environment of vLLM for servers on this machine."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl.options import FOLDER, Call, Group

if TYPE_CHECKING:
    from runtime.operations.machines.vllm_install import Backend


@click.group(cls=Group)
def command() -> None:
    """Install vLLM for hosts of engine `local`.

    Example:
      fleetctl vllm install --cpu
    """


@command.command()
@click.option("--cpu", "backend", flag_value="cpu", help="All by hash, torch by exact version.")
@click.option("--cuda", "backend", flag_value="cuda", help="vLLM by release; untested by us.")
@click.option("--rocm", "backend", flag_value="rocm", help="The same, from an index you name.")
@click.option("--into", type=FOLDER, help="Folder of the environment. [default: .venv-vllm]")
@click.option(
    "--python",
    default=sys.executable,
    show_default="that of fleetctl",
    help="For a new environment.",
)
@click.pass_obj
def install(call: Call, *, backend: "Backend | None", into: Path | None, python: str) -> None:
    """Install vLLM and its plug-in into an environment; print the line for the declarations.

    Without a kind, the devices of this machine decide. Only missing packages are installed. An
    interrupted run goes on when run again. Before another release, stop its servers.

    Examples:
      fleetctl vllm install --cpu
      fleetctl vllm install --cuda --into /opt/vllm
    """
    from runtime.operations.machines.vllm_install import FOLDER as USUAL
    from runtime.operations.machines.vllm_install import backend_here, install_vllm

    folder = into or call.root / USUAL
    install_vllm(folder, backend or backend_here(), python, call.emit)
    shown, root = folder.absolute(), call.root.absolute()
    declared = os.path.relpath(shown, root) if shown.is_relative_to(root) else shown
    click.echo("A host of engine `local` finds it by this line of fleet.yaml:", err=True)
    click.echo(f"python: {declared}/bin/python")
