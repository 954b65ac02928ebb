"""`fleetctl import`: write the declarations of servers that run already."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl.options import INPUT_FILE, Call, Command, KeyReference, Workspace

if TYPE_CHECKING:
    from fleet.config import Imported


@click.command(cls=Command)
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--litellm", "proxy", type=INPUT_FILE, help="Configuration of a LiteLLM proxy.")
@click.option("--api-key", metavar="REF", type=KeyReference(), help="Key of servers that ask for "
              "one, as env:NAME or file:PATH.")  # fmt: skip
@click.pass_obj
def command(
    workspace: Workspace, urls: tuple[str, ...], proxy: Path | None, api_key: str | None
) -> None:
    """Write declarations of vLLM servers that run already; nothing changes on them.

    Clients go on asking for today's names (`alias_for`). Lines with QUESTION hold what no server
    tells. Files that are there keep all their lines.

    Examples:
      fleetctl import http://127.0.0.1:8000 http://10.0.0.6:8000
      fleetctl -C agency import --litellm config.yaml
      fleetctl import http://127.0.0.1:8000 --api-key env:VLLM_KEY
    """
    from fleet.config import imported_from, parse, proxy_names
    from plans.templating import rendered
    from runtime.files import read_text
    from runtime.operations.change.import_servers import add_versions, read_servers, write_import
    from runtime.project.declaration_files import MAIN

    if not urls and proxy is None:
        raise click.UsageError("Name the URL of a server, or pass --litellm FILE.")
    named = proxy_names(parse(read_text(proxy), str(proxy)).value, str(proxy)) if proxy else None
    plain = [url.rstrip("/").removesuffix("/v1").rstrip("/") for url in urls]
    found = [*plain, *(named.urls if named else ())]
    keys = dict.fromkeys(found, api_key or "") | (named.keys if named else {})
    servers = read_servers(found, workspace.root, keys)
    fleet = workspace.project.fleet() if (workspace.root / MAIN).exists() else None
    imported = imported_from(servers, named.asked if named else None, fleet)
    written, edited = write_import(workspace, imported, rendered)
    for verb, paths in (("Wrote", written), ("Added to", edited)):
        for path in paths:
            click.echo(f"{verb} {path}", err=True)
    missing = {str(adapter.name): why for adapter, why in add_versions(workspace, imported)}
    left_out = [*imported.left_out, *(named.left_out if named else ())]
    _print_imported(imported, missing, left_out)
    _next(workspace, list(missing))


def _print_imported(imported: "Imported", missing: Mapping[str, str], left_out: list[str]) -> None:
    for adapter in imported.adapters:
        if str(adapter.name) not in missing:
            click.echo(f"Added {adapter.name}, which is asked for as {adapter.asked}", err=True)
    unjudged = [adapter.name.alias for adapter in imported.adapters]
    for title, lines in (
        ("Not added to the library", [f"{name}: {why}" for name, why in missing.items()]),
        ("No golden set judges new versions ahead of clients", unjudged),
        ("Not carried over", left_out),
    ):
        if lines:
            click.echo("\n".join((f"{title}:", *(f"    {line}" for line in lines))), err=True)


def _next(call: Call, missing: list[str]) -> None:
    steps = (
        f"grep -rn QUESTION {call.root}  # answer these, and delete their lines",
        "fleetctl validate  # warns of aliases whose new versions nothing judges (FC1246)",
        *(f"fleetctl adapter add PATH --as {name}" for name in missing),
        "fleetctl key create --all  # or write the keys that clients send today into these files",
        "fleetctl plan  # loads copies beside what is served; nothing restarts, nothing unloads",
        "fleetctl apply --auto",
        "fleetctl gateway start  # then give clients its address in place of the servers'",
    )
    click.echo("Next:", err=True)
    for step in steps:
        click.echo(f"    {step}", err=True)
