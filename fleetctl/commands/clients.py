"""`fleetctl key`: API keys of clients."""

from collections.abc import Iterable

import click

from fleetctl import completion
from fleetctl.options import Group, Workspace


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
    from runtime.project.load import ParseCache

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
def create(workspace: Workspace, name: str | None, *, every: bool, replace: bool) -> None:
    """Create a random key for a declared key.

    The key is written to the declared file, readable by you alone, or printed once if the
    declaration names an environment variable. A key that clients use and whose file is missing
    is not replaced (exit 1), unless with --replace.

    Examples:
      fleetctl key create acme/prod
      fleetctl key create --all
    """
    from runtime.operations.change.keys import create_keys

    if (name is None) != every:
        raise click.UsageError("Name one CLIENT/KEY, or pass --all.")
    if every and replace:
        raise click.UsageError("Name the CLIENT/KEY to replace.")
    for created in create_keys(workspace, name, replace=replace):
        if created.path is None:
            click.echo(created.secret)
            place = f"Set {created.variable} to this key where `fleetctl apply` runs, then apply."
            click.echo(f"Shown only once. {place}", err=True)
        else:
            text = f"{created.name} written to {created.path}"
            click.echo(f"{text}; `fleetctl apply --auto` activates it.", err=True)
