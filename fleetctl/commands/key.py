"""`fleetctl key`: create API keys of clients."""

from typing import TYPE_CHECKING, NoReturn

import click

from fleetctl import completion

if TYPE_CHECKING:
    from fleet.spec import ClientKey
    from runtime.workspace import Workspace


@click.group(
    name="key",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl key create acme/prod
  fleetctl key create --all
""",
)
def command() -> None:
    """Create API keys of clients. Only hashes leave the place where a key is kept."""


@command.command(
    "create",
    epilog="""\b
Examples:
  fleetctl key create acme/prod
  fleetctl key create --all
""",
)
@click.argument("key", metavar="[CLIENT/KEY]", required=False, shell_complete=completion.keys)
@click.option(
    "--all", "every", is_flag=True, help="Create every declared `file:` key that has no file."
)
@click.pass_obj
def create(workspace: "Workspace", key: str | None, *, every: bool) -> None:
    """Create a random key for a declared key.

    The key is written to the declared file, readable by you alone, or printed once if the
    declaration names an environment variable.
    """
    if (key is None) != every:
        raise click.UsageError("Name one CLIENT/KEY, or pass --all.")
    declared = _declared(workspace)
    if key is not None:
        _create(workspace, key, declared.get(key) or _unknown(key, declared))
        return
    for name, each in declared.items():
        kind, _, where = each.reference.partition(":")
        if kind == "file" and not (workspace.root / where).exists():
            _create(workspace, name, each)


def _create(workspace: "Workspace", key: str, declared: "ClientKey") -> None:
    from runtime.secrets import make_key, write_secret

    kind, _, where = declared.reference.partition(":")
    secret = make_key()
    if kind == "env":
        click.echo(secret)
        click.echo(
            f"Shown only once. Set {where} to this key where `fleetctl apply` runs, then apply.",
            err=True,
        )
        return
    write_secret(secret, workspace.root / where)
    click.echo(
        f"{key} written to {workspace.root / where}; `fleetctl apply --auto` activates it.",
        err=True,
    )


def _declared(workspace: "Workspace") -> "dict[str, ClientKey]":
    return {
        f"{client.name}/{each.name}": each
        for client in workspace.fleet().clients.values()
        for each in client.keys
    }


def _unknown(key: str, declared: "dict[str, ClientKey]") -> NoReturn:
    from fleet.errors import FleetError, did_you_mean, problem

    raise FleetError(
        problem(
            "FC6012",
            "No such key is declared",
            f"`{key}` is not declared. A key is declared with its client: "
            '`keys: {prod: "file:.fleetctl/keys/acme-prod"}`.',
            hint=did_you_mean(key, sorted(declared)),
            command="fleetctl validate",
        )
    )
