"""`fleetctl trust`: confirm network hosts, folders, packages and code of the declarations."""

from typing import TYPE_CHECKING

import click

from fleetctl.options import Call, Group, Workspace, with_format
from fleetctl.output import print_result
from plans.tables import aligned

if TYPE_CHECKING:
    from runtime.trust import Trust

_items = click.argument("items", nargs=-1, metavar="[URL|FOLDER]...")
_code = click.option("--code", multiple=True, metavar="FLAG", help="Flag of vLLM that runs code.")
_package = click.option(
    "--package", "packages", multiple=True, metavar="NAME[==VERSION]", help="Installed extension."
)
_host = click.option("--host", default="", metavar="HOST", help="Declared host of --code.")


@click.group(cls=Group)
def command() -> None:
    """Confirm hosts, folders, packages and code that declarations may name.

    Kept in ~/.config/fleetctl/trust.yaml, which no checkout can bring along. Loopback, Unix
    sockets and files of the project need no trust.

    Examples:
      fleetctl trust add https://gw.example.com
      fleetctl trust list
    """


@command.command()
@_items
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="REF",
    help="Secret that may go to the URLs: `operator`, `env:NAME`, `file:PATH` (default: operator, "
    "for https alone); repeatable.",
)
@click.option("--no-secret", is_flag=True, help="The URLs may be contacted and get no secret.")
@_package
@_code
@_host
@click.pass_obj
def add(
    call: Call,
    *,
    items: tuple[str, ...],
    secrets: tuple[str, ...],
    no_secret: bool,
    packages: tuple[str, ...],
    code: tuple[str, ...],
    host: str,
) -> None:
    """Trust network hosts, folders outside the project, packages, or flags that run code.

    A secret goes to hosts that were named with it, over https, and nowhere else.

    Examples:
      fleetctl trust add https://gw.example.com
      fleetctl trust add https://judge.example.com --secret env:JUDGE_KEY
      fleetctl trust add http://10.0.0.5:8000 ssh://10.0.0.6
      fleetctl trust add /models
      fleetctl trust add --code trust-remote-code --host box1
      fleetctl trust add --package fleetctl-acme==1.2.0
    """
    from runtime.operations.machines.trust import add_trust, parse_items
    from runtime.trust import trust_path

    _require_items((*items, *packages), code, host)
    if no_secret and secrets:
        raise click.UsageError("--secret and --no-secret contradict each other.")
    change = parse_items(items, packages, adding=True)
    if (secrets or no_secret) and not change.hosts:
        raise click.UsageError("--secret and --no-secret need a URL.")
    chosen = secrets if secrets or no_secret else None
    trust = add_trust(call.root, change, chosen, code, host)
    click.echo(_listed(trust), nl=False)
    click.echo(f"Wrote {trust_path()}.", err=True)


@command.command()
@_items
@_package
@_code
@_host
@click.pass_obj
def remove(
    call: Call,
    *,
    items: tuple[str, ...],
    packages: tuple[str, ...],
    code: tuple[str, ...],
    host: str,
) -> None:
    """Trust hosts, folders, packages or flags no more; removing the unknown is fine.

    Examples:
      fleetctl trust remove https://gw.example.com
      fleetctl trust remove --code trust-remote-code --host box1
    """
    from runtime.operations.machines.trust import parse_items, remove_trust
    from runtime.trust import trust_path

    _require_items((*items, *packages), code, host)
    change = parse_items(items, packages, adding=False)
    trust = remove_trust(call.root, change, code, host)
    click.echo(_listed(trust), nl=False)
    click.echo(f"Wrote {trust_path()}.", err=True)


@command.command("list")
@with_format
def list_trust(workspace: Workspace, form: str) -> None:  # noqa: ARG001 (every command has one)
    """List all that is trusted. Shows references of secrets, never a secret.

    Examples:
      fleetctl trust list
      fleetctl trust list --format json
    """
    from runtime.trust import load_trust, trust_path

    trust = load_trust()
    document = {"file": str(trust_path()), **trust.model_dump(mode="json")}
    print_result(form, document, lambda _: _listed(trust))


def _require_items(items: tuple[str, ...], code: tuple[str, ...], host: str) -> None:
    if bool(code) != bool(host):
        raise click.UsageError("--code and --host belong together.")
    if not items and not code:
        raise click.UsageError("Name a URL, a folder, --package NAME, or --code FLAG --host HOST.")


def _listed(trust: "Trust") -> str:
    rows = [
        ("host", name, f"gets {', '.join(references)}" if references else "gets no secret")
        for name, references in trust.hosts.items()
    ]
    rows += [("folder", str(root), "may hold declared files") for root in trust.roots]
    rows += [("package", name, "may be loaded as an extension") for name in trust.packages]
    rows += [("code", name, f"may run {', '.join(flags)}") for name, flags in trust.code.items()]
    if not rows:
        return "Nothing beyond this machine and the project is trusted.\n"
    return "".join(f"{line}\n" for line in aligned(rows))
