"""`fleetctl dashboard`: web pages of the fleet and of its clients, and links to them."""

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from fleet.errors import FleetError, did_you_mean
from fleetctl import completion
from fleetctl.options import Group, ProjectContext, Workspace, duration

if TYPE_CHECKING:
    import socket

    from fleet.usage import Scope
    from runtime.web.access import TokenKind, TrustedProxy
    from runtime.web.app import Dashboard
    from runtime.web.facts import Documents
    from runtime.web.snapshot import SnapshotReader

DEFAULT_LISTEN = "127.0.0.1:8090"
_client_argument = click.argument("client", required=False, shell_complete=completion.clients)
_url_option = click.option(
    "--url",
    metavar="URL",
    default=f"http://{DEFAULT_LISTEN}",
    show_default=True,
    help="Address of the dashboard as people reach it.",
)
_for_option = click.option(
    "--for",
    "length",
    metavar="DURATION",
    callback=duration,
    default="30d",
    show_default=True,
    help="Duration, such as 30d.",
)


@click.group("dashboard", cls=Group, invoke_without_command=True)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=DEFAULT_LISTEN,
    show_default=True,
    help="Address to listen on.",
)
@click.option("--url", metavar="URL", default="", help="Public address behind a proxy with TLS.")
@click.option("--read-only", is_flag=True, help="Leave out the routes of all buttons.")
@click.option(
    "--proxy-header",
    metavar="NAME",
    help="Header in which a proxy that signs operators in names the person.",
)
@click.option("--proxy-address", metavar="IP", help="Address of that proxy; no other is trusted.")
@click.pass_context
def command(
    ctx: click.Context,
    listen: str,
    url: str,
    *,
    read_only: bool,
    proxy_header: str | None,
    proxy_address: str | None,
) -> None:
    """Serve web pages of the fleet: devices, models, rollouts, drift, plans.

    Prints a link that opens one session of an operator. Clients see pages of their own, by links
    of `dashboard link CLIENT`. Reads the fleet every 5 seconds; runs until Ctrl-C.

    Examples:
      fleetctl dashboard
      fleetctl dashboard --read-only
      fleetctl dashboard --listen 0.0.0.0:8090 --url https://fleet.example.com
      fleetctl dashboard --proxy-header X-Forwarded-User --proxy-address 10.0.0.7
      fleetctl dashboard link acme --for 30d --url https://fleet.example.com
    """
    if ctx.invoked_subcommand is None:
        proxy = _proxy(proxy_header, proxy_address)
        _serve(ctx.obj, listen, url.rstrip("/"), proxy, read_only=read_only)


def _proxy(header: str | None, address: str | None) -> "TrustedProxy | None":
    from ipaddress import ip_address

    from runtime.web.access import TrustedProxy

    if header is None and address is None:
        return None
    if not header or not address:
        raise click.UsageError("Pass --proxy-header and --proxy-address together.")
    try:
        return TrustedProxy(header, str(ip_address(address)))
    except ValueError:
        raise click.BadParameter("Write it as 10.0.0.7.", param_hint="--proxy-address") from None


def make_dashboard(
    workspace: Workspace,
    reader: "SnapshotReader",
    listen: str = DEFAULT_LISTEN,
    url: str = "",
    proxy: "TrustedProxy | None" = None,
    *,
    read_only: bool = False,
) -> "Dashboard":
    """Return the dashboard of a workspace with the renderers of `plans`."""
    from fleetctl.advice import completed, workspace_options
    from plans import dashboard
    from runtime.operations.watch.costs import BillReader
    from runtime.web.access import TokenSigner, signing_key
    from runtime.web.app import Dashboard
    from runtime.web.sources import FactSource

    options = workspace_options(workspace)
    return Dashboard(
        workspace=workspace,
        reader=reader,
        source=FactSource(workspace, _documents(), BillReader(workspace)),
        render=lambda page, values: completed(dashboard.render(page, values), options),
        stylesheet=dashboard.stylesheet(),
        signer=TokenSigner(signing_key(workspace.state_dir)),
        listen=listen,
        url=url,
        read_only=read_only,
        proxy=proxy,
    )


def _documents() -> "Documents":
    """Return the makers of the documents that commands print too."""
    from plans.render import RENDERERS
    from plans.reports import cost, invoice
    from plans.reports.alerts import alerts_document, why_document
    from plans.reports.client_report import document
    from plans.reports.drift import cause_document
    from plans.reports.history import sentence
    from plans.reports.rollouts import rollout_document
    from runtime.web.facts import Documents

    return Documents(
        rollout=rollout_document,
        cause=cause_document,
        cost=cost.cost_documents,
        client_costs=cost.client_costs,
        cost_days=cost.cost_days,
        invoice=invoice.invoice_documents,
        alerts=alerts_document,
        why=why_document,
        plan=RENDERERS["text"],
        sentence=sentence,
        report=document,
    )


def _bound(listen: str) -> "socket.socket":
    """Return a socket that is bound to an address; raise FC6111 where the address is taken."""
    import socket

    host, _, port = listen.rpartition(":")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except (OSError, OverflowError) as error:
        listener.close()
        raise FleetError.of(
            "FC6111",
            "The dashboard cannot listen",
            f"`{listen}`: {getattr(error, 'strerror', None) or error}.",
            hint="Give another port, or end the process that has this one.",
            command="fleetctl dashboard --listen 127.0.0.1:8091",
        ) from None
    return listener


def _serve(
    workspace: Workspace, listen: str, url: str, proxy: "TrustedProxy | None", *, read_only: bool
) -> None:
    import uvicorn

    from plans.dashboard import hosts
    from runtime.web.access import is_loopback
    from runtime.web.snapshot import SnapshotReader, read_fleet

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter("Write it as HOST:PORT.", param_hint="--listen")
    if not is_loopback(listen) and not url.startswith("https://"):
        click.echo(
            "Warning: sessions go over the network without TLS. Put a proxy with TLS in front, and "
            "name its address with --url https://…",
            err=True,
        )
    workspace.project.fleet()  # broken declarations are told here, with their places
    reader = SnapshotReader(partial(read_fleet, workspace, hosts))
    pages = make_dashboard(workspace, reader, listen, url, proxy, read_only=read_only)
    settings = uvicorn.Config(
        pages.application(),
        log_level="warning",
        server_header=False,
        access_log=False,
        ws="none",
        proxy_headers=False,  # else a header of any local program would say where it comes from
    )
    with _bound(listen) as listener:
        click.echo(_link(workspace, "", None, url or f"http://{listen}"))
        click.echo("The link opens one session, within 10 minutes. Ctrl-C ends it.", err=True)
        uvicorn.Server(settings).run(sockets=[listener])


@command.command()
@_client_argument
@_for_option
@_url_option
@click.pass_obj
def link(workspace: Workspace, client: str | None, length: timedelta, url: str) -> None:
    """Print a link to the pages of CLIENT; without CLIENT, one to the operators' pages.

    A client's link works for the duration, until revoked. An operator's opens one session, within
    10 minutes.

    Examples:
      fleetctl dashboard link acme --for 30d --url https://fleet.example.com
      fleetctl dashboard link
    """
    click.echo(_link(workspace, client or "", length, url.rstrip("/")))


@command.command()
@_client_argument
@_for_option
@click.pass_obj
def token(workspace: Workspace, client: str | None, length: timedelta) -> None:
    """Print a bearer token for the .json and .csv pages of CLIENT, or of operators.

    Examples:
      fleetctl dashboard token acme --for 30d
      curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8090/models.json
    """
    click.echo(_token(workspace, "token", client or "", length))


@command.command()
@_client_argument
@click.pass_obj
def revoke(workspace: Workspace, client: str | None) -> None:
    """End all links, sessions and tokens of CLIENT; without CLIENT, those of operators.

    A dashboard that runs refuses them with its next reading of the ledger, seconds later.

    Examples:
      fleetctl dashboard revoke acme
      fleetctl dashboard revoke
    """
    from fleet.history import DashboardRevoked

    _scope(workspace.project, client or "")
    workspace.ledger.open().append([DashboardRevoked(client or "")])
    click.echo(f"Revoked all links and tokens of {client or 'operators'}.", err=True)


def _link(workspace: Workspace, client: str, length: timedelta | None, url: str) -> str:
    from runtime.web.access import LINK_S

    lasts = length if client and length else timedelta(seconds=LINK_S)
    return f"{url}/enter?t={_token(workspace, 'link', client, lasts)}"


def _token(workspace: Workspace, kind: "TokenKind", client: str, length: timedelta) -> str:
    from runtime.web.access import Grant, TokenSigner, revocations, signing_key

    scope = _scope(workspace.project, client)
    generation = revocations(workspace.ledger.open().read()).get(client, 0)
    grant = Grant(scope, workspace.by, workspace.now() + length, generation)
    return TokenSigner(signing_key(workspace.state_dir)).make(kind, grant)


def _scope(project: ProjectContext, client: str) -> "Scope":
    from fleet.usage import OfClient, Operator

    if not client:
        return Operator()
    known = project.fleet().clients
    if client not in known:
        near = did_you_mean(client, sorted(known))
        raise FleetError.of("FC5122", "No such client", f"`{client}` is not declared.", hint=near)
    return OfClient(client)
