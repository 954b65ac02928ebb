"""`fleetctl key`: API keys of clients."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from fleet.errors import FleetError, did_you_mean
from fleetctl import completion
from fleetctl.options import Group, Workspace

if TYPE_CHECKING:
    from fleet.spec import ClientKey


@click.group(cls=Group)
def key() -> None:
    """Create API keys of clients. Only hashes leave the place where a key is kept.

    Examples:
      fleetctl key create acme/prod
      fleetctl key create --all
    """


@completion.completion
def _declared_keys(ctx: click.Context) -> Iterable[str]:
    """Return the declared API keys as CLIENT/KEY."""
    from runtime.project import load
    from runtime.project.parse_cache import ParseCache

    options = ctx.find_root().params
    variables = dict(text.partition("=")[::2] for text in options["variables"])
    texts = load.read_files(options["root"], options["environment"])
    cache = ParseCache(options["root"])
    declared = load.read_tree(texts, options["environment"], variables, cache).value.get("clients")
    return [
        f"{client}/{key}"
        for client, entry in completion.as_map(declared).items()
        for key in completion.as_map(completion.as_map(entry).get("keys"))
    ]


@key.command("create")
@click.argument("name", metavar="[CLIENT/KEY]", required=False, shell_complete=_declared_keys)
@click.option(
    "--all", "every", is_flag=True, help="Create every declared `file:` key that has no file."
)
@click.option("--replace", is_flag=True, help="Also in the place of a key that clients use.")
@click.pass_obj
def create_keys(workspace: Workspace, name: str | None, *, every: bool, replace: bool) -> None:
    """Create a random key for a declared key.

    The key is written to the declared file, readable by you alone, or printed once if the
    declaration names an environment variable. A key that clients use and whose file is missing
    is not replaced (exit 1), unless with --replace.

    Examples:
      fleetctl key create acme/prod
      fleetctl key create --all
    """
    from runtime.operations import keys
    from runtime.operations.planning import as_far_as_valid

    if (name is None) != every:
        raise click.UsageError("Name one CLIENT/KEY, or pass --all.")
    if every and replace:
        raise click.UsageError("Name the CLIENT/KEY to replace.")
    workspace, _ = as_far_as_valid(workspace)
    declared = {
        f"{client.name}/{key.name}": key
        for client in workspace.fleet().clients.values()
        for key in client.keys
    }
    if name is not None and name not in declared:
        detail = (
            f"`{name}` is not declared. A key is declared with its client: "
            '`keys: {prod: "file:.fleetctl/keys/acme-prod"}`.'
        )
        hint = did_you_mean(name, sorted(declared))
        command = "fleetctl validate"
        raise FleetError.of("FC6012", "No such key is declared", detail, hint=hint, command=command)
    chosen = {name: declared[name]} if name else declared
    missing = {
        full: path
        for full, key in chosen.items()
        for kind, _, path in [key.reference.partition(":")]
        if kind == "file" and not (workspace.root / path).exists()
    }
    used = keys.fingerprints_in_use(workspace) if missing and not replace else {}
    for full in missing if every else chosen:
        if not (full in missing and full in used):
            _create(workspace, full, declared[full])
    problems = [
        keys.in_use(workspace, full, path, used[full])
        for full, path in missing.items()
        if full in used
    ]
    if problems:
        raise FleetError(*problems)


def _create(workspace: Workspace, name: str, declared: "ClientKey") -> None:
    from runtime.secrets import make_key, write_secret

    kind, _, place = declared.reference.partition(":")
    secret = make_key()
    if kind == "env":
        click.echo(secret)
        text = f"Shown only once. Set {place} to this key where `fleetctl apply` runs, then apply."
    else:
        path = workspace.root / place
        write_secret(secret, path)
        text = f"{name} written to {path}; `fleetctl apply --auto` activates it."
    click.echo(text, err=True)
