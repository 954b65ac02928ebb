"""`fleetctl cost`: bills of months, invoices, how an hour was split, staff hours."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import FleetError, did_you_mean
from fleetctl.options import EXISTING_FILE, Group, Workspace, choice_option, out_option
from fleetctl.output import print_lines, print_result, waiting
from runtime.files import write_text

if TYPE_CHECKING:
    from plans.reports.cost import TabularReport
    from runtime.operations.watch.costs import MonthBills

FORMATS = ("text", "md", "csv", "json", "html")


def _month(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Read a month such as `2026-11` (a click callback)."""
    if value is None:
        return None
    try:
        return f"{datetime.strptime(value, '%Y-%m').replace(tzinfo=UTC):%Y-%m}"
    except ValueError:
        raise click.BadParameter(f"{value!r} is no month; write it as 2026-11.") from None


month_option = click.option(
    "--month", callback=_month, help="Month, such as 2026-11 (default: the current month)."
)


@click.group(cls=Group)
def cost() -> None:
    """Show the cost of every client, to the cent; close months.

    Costs are made of what the ledger recorded at the time, never of today's files: docs/cost.md.

    Examples:
      fleetctl cost report
      fleetctl cost invoice acme --month 2026-11
    """


def _bills(workspace: Workspace) -> "MonthBills":
    from runtime.operations.watch.costs import MonthBills

    return MonthBills(workspace)


def _print(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)


def _rendered(report: "TabularReport", form: str) -> str:
    from plans.reports import cost

    renderers = {"md": cost.render_markdown, "html": cost.render_html}
    return renderers.get(form, cost.render_text)(report)


def _require(client: str | None, known: object) -> None:
    names = sorted(known) if isinstance(known, set) else []
    if client is not None and client not in names:
        hint = did_you_mean(client, names)
        raise FleetError.of("FC5122", "No such client", f"`{client}` has no costs.", hint=hint)


@cost.command("report")
@month_option
@click.option("--client", help="One client alone.")
@choice_option(*FORMATS)
@out_option
@click.pass_obj
def report_command(
    workspace: Workspace, month: str | None, client: str | None, form: str, out: Path | None
) -> None:
    """Show cost, fee, margin and projection of clients, for the operator.

    The lines add up to the bill: leases of devices, storage, staff. Above 40 % of a fee the report
    says which fee would carry the cost, and which moves would lower the cost.

    Examples:
      fleetctl cost report --month 2026-11
      fleetctl cost report --client acme --format json
      fleetctl cost report --format html --out november.html
    """
    from plans.reports import cost as reports

    bills = _bills(workspace)
    with waiting("Adding up the hours…"):
        bill = bills.bill(month or bills.month_of(bills.now))
    _require(client, {*bill.cost.clients, *(line.client for line in bill.cost.lines)})
    match form:
        case "json":
            text = reports.render_json(bill, client)
        case "csv":
            text = reports.render_csv(bill, client)
        case _:
            text = _rendered(reports.report(bill, client), form)
    _print(text, out)


@cost.command("budgets")
@choice_option("text", "json")
@click.pass_obj
def budgets_command(workspace: Workspace, form: str) -> None:
    """Show the requests and tokens of this month beside the declared budgets.

    They are `requests_per_month` and `tokens_per_month` of `limits`; with `budget: hard` requests
    beyond are refused until the month ends. Figures are of all gateways, up to now.

    Examples:
      fleetctl cost budgets
      fleetctl cost budgets --format json
    """
    import asyncio

    from plans.reports import cost
    from runtime.operations.watch.budgets import uses_of_month
    from runtime.operations.watch.usage import WAIT_S, gather_usage_rows

    with waiting("Reading usage…"):
        _, lacking = asyncio.run(gather_usage_rows(workspace.state_dir, workspace.now, WAIT_S))
    print_lines(lacking)
    now = workspace.now()
    month, uses = uses_of_month(workspace.project.fleet(), workspace.state_dir, now)
    print_result(form, cost.rows(uses, month, now), cost.table)


@cost.command("invoice")
@click.argument("client")
@month_option
@choice_option(*FORMATS)
@out_option
@click.pass_obj
def invoice_command(
    workspace: Workspace, client: str, month: str | None, form: str, out: Path | None
) -> None:
    """Preview a client's invoice: requests, tokens, fee and overage.

    Holds no cost, margin, server or other client. Of a closed month the invoice is final.

    Examples:
      fleetctl cost invoice acme
      fleetctl cost invoice acme --month 2026-11 --format html --out acme.html
    """
    from plans.reports import invoice

    bills = _bills(workspace)
    bill = bills.bill(month or bills.month_of(bills.now))
    _require(client, {*bill.cost.clients})
    found = invoice.document(bill, client)
    match form:
        case "json":
            text = invoice.render_json(found)
        case "csv":
            text = invoice.render_csv(found)
        case _:
            text = _rendered(invoice.report(found), form)
    _print(text, out)


@cost.command("explain")
@click.argument("place", metavar="CLIENT/HOUR/HOST/DEVICE")
@click.pass_obj
def explain_command(workspace: Workspace, place: str) -> None:
    """Explain a client's cost in an hour of a device; hours are UTC.

    An attached server stands in the place of a device.

    Examples:
      fleetctl cost explain acme/2026-11-14T15/box1/gpu0
    """
    from fleet.costing import HourSplitter, lines_of
    from plans.reports.cost import explanation

    client, _, rest = place.partition("/")
    text, _, device = rest.partition("/")
    try:
        hour = datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        text = "Name it as acme/2026-11-14T15/box1/gpu0, the hour in UTC."
        raise click.UsageError(text) from None
    terms, cells = _bills(workspace).hour(hour)
    found = HourSplitter(terms).split(hour, cells)
    if device not in found:
        hint = did_you_mean(device, sorted(found))
        detail = f"`{device}` had no lease in that hour."
        raise FleetError.of("FC6088", "No such lease", detail, hint=hint)
    _require(client, {*terms.clients, *(line.client for line in lines_of(found[device]))})
    click.echo(explanation(terms, hour, device, client, found[device]), nl=False)


@cost.command("close")
@click.argument("month", callback=_month)
@click.pass_obj
def close_command(workspace: Workspace, month: str) -> None:
    """Close a month that is over: its bill no longer changes.

    Its file goes to the state folder, the file's hash into the ledger. Rows that arrive later
    become corrections in the open month.

    Examples:
      fleetctl cost close 2026-11
    """
    from plans.reports.cost import money

    with waiting("Adding up the hours…"):
        path, closed = _bills(workspace).close(month)
    from fleet.costing import bill_cents

    click.echo(f"{month} is closed: {money(bill_cents(closed.total))}, sha256 {closed.sha256}")
    click.echo(f"  {path}")


@cost.group("staff", cls=Group)
def staff() -> None:
    """Import hours of work for clients.

    Examples:
      fleetctl cost staff import hours.csv
    """


@staff.command("import")
@click.argument("file", type=EXISTING_FILE)
@click.pass_obj
def import_command(workspace: Workspace, file: Path) -> None:
    """Take staff hours from a CSV file with the columns date, client and hours.

    For a client of the file, they replace the declared hours of the month. A later import of a
    month replaces an earlier one.

    Examples:
      fleetctl cost staff import hours.csv
    """
    from runtime.operations.watch.costs import import_staff

    for month, hours in import_staff(workspace, file).items():
        total = sum(hours.values()) / 1000
        click.echo(f"{month}: {total:g} hours for {', '.join(sorted(hours))}")
