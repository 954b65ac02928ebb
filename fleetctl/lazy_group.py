"""The table of commands, and the click group that imports a command when called."""

from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from fleet.errors import did_you_mean

GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Begin": {
        "demo": ("demo", "Play a fleet's day: plan, apply, canary, rollback, drift, healing."),
        "vllm": ("vllm", "Install vLLM with its plug-in for servers on this machine."),
    },
    "Declare": {
        "scaffold": ("scaffold", "Write a new fleet, client or adapter declaration."),
        "import": ("import_servers", "Write the declarations of vLLM servers that run already."),
        "validate": (
            "declarations",
            "Check the declarations; report every problem with its place.",
        ),
        "fmt": ("declarations", "Put the declarations into canonical form."),
        "config": ("declarations", "Show resolved values and their files."),
        "trust": ("trust", "Confirm hosts, folders and code that declarations may name."),
        "schema": ("declarations", "Print the JSON Schema of the declarations."),
    },
    "Library": {
        "adapter": ("adapter", "Add, list, show and verify adapter versions."),
        "retrain": ("retrain", "List adapters due for retraining, claim one, train it."),
        "gc": ("gc", "Delete unused adapter versions, served copies and old answers."),
    },
    "Plan and apply": {
        "plan": ("plan", "Show the changes that are due. Changes nothing."),
        "explain": ("placement", "Explain a resource's place and values, or an error code."),
        "show": ("plan", "Render a saved plan."),
        "graph": ("plan", "Print the steps of a plan as a graph."),
        "approve": ("approve", "Consent to a plan that needs a decision, such as an outage."),
        "apply": ("apply", "Carry out a plan, step by step."),
        "freeze": ("freeze", "Stop applies and rollouts; healing and rollback go on."),
        "thaw": ("freeze", "End the freeze: applies and rollouts go on."),
        "watch": ("watch", "Judge the fleet by rules; notify people. Exit 2 on an alert."),
        "why": ("watch", "Rank what may have made an alias worse, with figures."),
        "status": ("status", "Show outages, rollouts that wait for people, versions and servers."),
        "history": ("ledger", "Show the ledger: actions with their time and author."),
        "drift": ("ledger", "Compare live with the last apply. Exit 2 on drift."),
        "reconcile": ("apply", "Repair drift and promote rollouts, once or at an interval."),
        "adopt": ("live", "Write live resources into the ledger."),
        "ledger": ("ledger", "Put the verified copy back in place of a damaged ledger."),
        "state": ("state", "Back up, restore and drill the state folder."),
        "host": ("host", "Check and prepare hosts that are reached by SSH."),
        "server": ("live", "List, stop and read the logs of servers that fleetctl started."),
    },
    "Rollouts and evals": {
        "rollout": ("rollout", "Show, hold, pause, approve, advance, extend or abort rollouts."),
        "upgrade": ("upgrade", "Approve, advance, stop or release an upgrade of servers."),
        "rollback": ("rollback", "Give an alias's traffic to its previous version, now."),
        "release": ("rollback", "Allow a version that was rolled back to be rolled out again."),
        "eval": ("eval", "Evaluate served versions on golden sets; list the results."),
        "evidence": ("ledger", "Show and re-check the verdicts of gates."),
    },
    "Watching": {"dashboard": ("dashboard", "Serve web pages of the fleet and of its clients.")},
    "Data plane": {
        "gateway": ("gateway", "Run, start, stop and show gateways."),
        "key": ("clients", "Create API keys of clients."),
        "usage": ("usage", "Summarise, list and compact the requests of clients."),
        "cost": ("cost", "Show costs of clients, to the cent; close months."),
        "compile": ("compile", "Print start commands of servers, or routes for another gateway."),
    },
    "Sizing": {
        "draw": ("placement", "Draw the packing: devices, adapters in their slots, load by hour."),
        "diagnose": ("placement", "Show why the fleet does not fit, and which changes would help."),
        "demand": ("sizing", "Show requests of adapters by hour; record them from usage."),
        "calibrate": ("calibrate", "Measure the speed of a running server, for planning."),
        "pack": ("sizing", "Pack vectors into bins, or adapters onto servers, from files."),
    },
}
"""Commands by part of the work: module, line of help.

A command is the function of its name in its module, else the function `command`.
"""

FOR_FORKS = frozenset(
    {"adapter", "config", "diagnose", "draw", "explain", "fmt", "graph", "pack", "plan", "scaffold",
     "schema", "show", "trust", "validate"}
)  # fmt: skip
"""Commands that CI may run on the branch of a fork: without a connection, and without a secret."""

COMMANDS = {name: text for group in GROUPS.values() for name, (_, text) in group.items()}


class LazyGroup(click.Group):
    """A group that imports a command when called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command; None if there is none of the name."""
        if cmd_name not in COMMANDS:
            return None
        name = next(group[cmd_name][0] for group in GROUPS.values() if cmd_name in group)
        module = import_module(f"fleetctl.commands.{name}")
        command: click.Command = getattr(module, cmd_name, None) or module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, without importing any, and global options."""
        commands = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands by group, without importing any."""
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:{width}}", text) for name, (_, text) in commands.items()]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of the given name.

        `COMMAND --help` is answered here: click calls `main_group` next, which opens a workspace.
        """
        known = not args or args[0].startswith("-") or args[0] in COMMANDS
        if not known and not ctx.resilient_parsing:
            near = did_you_mean(args[0], sorted(COMMANDS))
            ctx.fail(f"No such command '{args[0]}'" + (f"; {near}" if near else "."))
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            _answer_help(ctx, name, command, rest)
        return name, command, rest


def _answer_help(
    parent: click.Context, name: str | None, command: click.Command | None, args: list[str]
) -> None:
    if command is None or not {*args} & {*parent.help_option_names}:
        return
    if isinstance(command, click.Group) and args[0] not in parent.help_option_names:
        with click.Context(command, parent, name) as context:
            _answer_help(context, *command.resolve_command(context, args))
    else:
        command.make_context(name, [*args], parent).close()
