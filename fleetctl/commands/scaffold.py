"""`fleetctl scaffold`: write a new fleet, client or adapter declaration, and files for CI."""

import re
from pathlib import Path
from typing import Any

import click

from fleet.errors import FleetError
from fleet.names import AdapterName, Version, is_id, suggest_id
from fleetctl.options import FOLDER, Call, Group, Workspace


@click.group(cls=Group)
def command() -> None:
    """Write a new fleet, client or adapter declaration, or CI. Never overwrites a file.

    Examples:
      fleetctl scaffold fleet agency
      fleetctl -C agency scaffold client acme
      fleetctl -C agency scaffold adapter acme/support --base llama3_8b --version 1.0.0
      fleetctl -C agency scaffold ci github
    """


@command.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--name", help="Name of the fleet (default: from DIR).")
@click.option("--base", default="llama3_8b", help="Name of the first base.")
@click.option(
    "--engine",
    type=click.Choice(["attach", "fake", "local", "ssh"]),
    default="local",
    help="local, ssh: fleetctl starts vLLM here, there; attach: vLLM runs; fake: made-up answers.",
)
def fleet(folder: Path, name: str | None, base: str, engine: str) -> None:
    """Write a fleet with a base and a host into DIR.

    Examples:
      fleetctl scaffold fleet agency
      fleetctl scaffold fleet agency --base qwen25_7b --engine attach
    """
    from plans.templating import rendered
    from runtime.operations.change.scaffold import new_fleet

    chosen = _id(name, "--name") if name else suggest_id(folder.resolve().name) or "fleet"
    text = rendered("fleet.yaml.j2", name=chosen, base=_id(base, "--base"), engine=engine)
    for path in new_fleet(folder, text):
        click.echo(f"Wrote {path}", err=True)
    _next(
        f"edit {folder / 'fleet.yaml'}: hosts, devices, prices",
        f"fleetctl -C {folder} scaffold client acme",
        f"fleetctl -C {folder} validate",
    )


@command.command()
@click.argument("name")
@click.option("--tier", help="Tier of the client (default: as in `defaults`).")
@click.pass_obj
def client(workspace: Workspace, name: str, tier: str | None) -> None:
    """Write clients/NAME.yaml.

    Example:
      fleetctl scaffold client acme --tier premium
    """
    from plans.templating import rendered
    from runtime.operations.change.scaffold import new_client

    values = {"name": _id(name, "NAME"), "tier": _id(tier, "--tier") if tier else None}
    path = new_client(workspace, name, rendered("client.yaml.j2", **values))
    click.echo(f"Wrote {path}", err=True)
    _next(
        f"fleetctl key create {name}/prod",
        f"fleetctl scaffold adapter {name}/TASK --base BASE --version 1.0.0",
    )


@command.command()
@click.argument("task", metavar="CLIENT/TASK")
@click.option("--base", required=True, help="Base that the adapter was trained on.")
@click.option("--version", required=True, help="Version to serve, such as 1.0.0.")
@click.pass_obj
def adapter(workspace: Workspace, task: str, base: str, version: str) -> None:
    """Add an adapter to its client's declaration.

    Example:
      fleetctl scaffold adapter acme/support --base llama3_8b --version 1.0.0
    """
    from plans.templating import rendered
    from runtime.operations.change.scaffold import new_adapter

    client_id, separator, task_id = task.partition("/")
    if not separator:
        raise click.UsageError(f"{task!r} is not of the form CLIENT/TASK, such as acme/support.")
    try:
        parsed = Version.parse(version)
    except ValueError as error:
        raise click.UsageError(f"--version: {error}.") from None
    ids = _id(client_id, "CLIENT"), _id(task_id, "TASK"), _id(base, "--base")
    name = AdapterName(*ids, parsed)
    entry = rendered("adapter.yaml.j2", task=name.task, base=name.base, version=str(parsed))
    golden_set = rendered("golden.jsonl.j2")
    (path, *golden), locked = new_adapter(workspace, name, entry, golden_set)
    click.echo(f"Added {name.alias} to {path}", err=True)
    for made in golden:
        text = "its questions ask only for an end; put the client's own with right answers there"
        click.echo(f"Wrote {made}: {text}", err=True)
    if locked:
        _next("fleetctl plan")
        return
    text = f"{name} is not in fleet.lock yet: until its files are added, `validate` says FC1210."
    click.echo(text, err=True)
    _next(f"fleetctl adapter add PATH --as {name}", "fleetctl plan")


@command.command()
@click.argument("forge", type=click.Choice(["github", "gitlab", "atlantis"]))
@click.option("--name", help="Name of the environment (default: of --env, else production).")
@click.option("--branch", default="main", help="Branch whose declarations are applied.")
@click.pass_obj
def ci(call: Call, forge: str, name: str | None, branch: str) -> None:
    """Write CI files for the repository in this folder.

    They plan in pull requests, apply the reviewed plan on merge, reconcile, and keep an issue
    open for every cause of drift.

    Examples:
      fleetctl scaffold ci github
      fleetctl -C agency --env prod scaffold ci gitlab --branch release
    """
    from plans.compile.ci import Forge, ci_files
    from runtime.operations.change.scaffold import write_files

    root, environment = call.root, call.environment
    if root.is_absolute() or ".." in root.parts:
        raise click.UsageError("Run this in the repository's top folder, with -C FOLDER in it.")
    if not re.fullmatch(r"[\w./-]+", f"{branch}{root}{environment or ''}"):
        raise click.UsageError(
            "Names of branch, folder, environment: letters, digits, . / - _ alone."
        )
    overlay = ("--env", environment) if environment else ()
    where = ("-C", root.as_posix()) if root != Path() else ()
    values = {"name": _id(name or environment or "production", "--name"), "branch": branch}
    files = ci_files(Forge(forge), " ".join((*where, *overlay)), **values)
    for path in write_files(Path(), files):
        click.echo(f"Wrote {path}", err=True)
    _next("read the comments at the heads of these files: runner, environments, secrets")


@command.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--clients", type=click.IntRange(1, 20_000), required=True, help="Number of clients.")
@click.option(
    "--adapters", type=click.IntRange(0, 200_000), required=True, help="Number of adapters."
)
@click.option(
    "--gpus",
    type=click.IntRange(1, 20_000),
    required=True,
    help="Number of GPUs, in hosts of eight.",
)
@click.option("--seed", type=int, default=0, help="The same seed gives the same bytes.")
def synthetic(folder: Path, **size: Any) -> None:
    """Write a large fleet of made-up clients with lifelike demand, for sizing and benchmarks.

    Such a fleet can be planned, not served: the lock pins made-up digests, and hosts use the
    engine `fake`.

    Examples:
      fleetctl scaffold synthetic --clients 120 --adapters 1000 --gpus 60 --seed 1 big
      fleetctl -C big plan
    """
    from fleet.config import json_schema
    from fleetctl.synthetic import synthesise
    from fleetctl.synthetic.population import SyntheticSize
    from runtime.operations.change.scaffold import SCHEMA_FILE, write_files

    if folder.is_dir() and any(folder.iterdir()):
        detail = f"`{folder}` holds files already, and a scaffold never overwrites."
        raise FleetError.of("FC6030", "File exists", detail, hint="Name another folder.")
    texts, warning = synthesise(SyntheticSize(**size))
    written = write_files(folder, {**texts, SCHEMA_FILE: json_schema()})
    click.echo(f"Wrote {len(written)} files into {folder}", err=True)
    if warning:
        click.echo(f"Warning: {warning}", err=True)
    _next(f"fleetctl -C {folder} plan")


def _id(text: str, what: str) -> str:

    if is_id(text):
        return text
    near = suggest_id(text)
    hint = f" Write {near}." if near else ""
    raise click.UsageError(
        f"{what}: {text!r} is not a name: lower-case letters, digits and single underscores, "
        f"a letter first; no hyphens.{hint}"
    )


def _next(*steps: str) -> None:
    click.echo("Next:", err=True)
    for step in steps:
        click.echo(f"    {step}", err=True)
