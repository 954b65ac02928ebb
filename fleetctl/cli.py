"""The entry point: global options, error texts and exit codes."""

import gc
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from fleet.errors import problem_of
from fleetctl import __version__
from fleetctl.advice import given_options
from fleetctl.lazy_group import LazyGroup
from fleetctl.options import FOLDER
from fleetctl.output import complete_commands, harmless_streams, print_diagnostics

USAGE_ERROR = 64
"""Exit code for wrong usage; click's own 2 means `changes are due` here."""

INTERRUPTED = 130

GARBAGE_THRESHOLDS = (100_000, 50, 100)
"""Thresholds of the search for cyclic garbage, for `gc.set_threshold`. Values of a command stay
until its end, so the search finds next to nothing; at Python's usual thresholds the search took a
fifth of the time of planning 10,000 adapters."""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="""\b
Start with:
  fleetctl demo --fake
  fleetctl scaffold fleet DIR
  fleetctl -C DIR plan
""",
)
@click.version_option(__version__, prog_name="fleetctl")
@click.option(
    "-C",
    "--directory",
    "root",
    type=FOLDER,
    default=Path(),
    help="Project folder, which holds fleet.yaml.",
)
@click.option("--env", "environment", help="Overlay to apply: env/NAME.yaml.")
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of ${var.NAME}."
)
@click.option(
    "--state-dir",
    type=FOLDER,
    help="Folder of ledger, routes and server records (default: .fleetctl in the project).",
)
@click.pass_context
def main_group(
    ctx: click.Context,
    root: Path,
    environment: str | None,
    variables: tuple[str, ...],
    state_dir: Path | None,
) -> None:
    """Plan and apply multi-LoRA fleets on vLLM, safely.

    Exit codes: 0 done or no changes; 1 error; 2 changes due (`plan --detailed-exitcode`), drift
    found or an alert stands; 3 a gate failed and was rolled back; 4 something was left, safe to
    repeat; 5 the plan is stale or not approved, or the fleet is locked or frozen; 64 wrong usage;
    130 interrupted.
    """
    from fleetctl.wiring import allowed_fork, open_workspace  # noqa: PLC0415 (`--help` is fast)

    given = dict(_pair(text) for text in variables)
    place = (root, environment, given, state_dir or root / ".fleetctl")
    if ctx.invoked_subcommand != "schema":  # reference, the same in all places
        complete_commands(given_options(*place))
    fork = allowed_fork(ctx.invoked_subcommand or "")
    ctx.obj = open_workspace(*place)
    ctx.obj.offline = f" for the branch of a fork ({fork})" if fork else None


def _remedy(error: click.UsageError) -> str:
    """Return the remedy of a slip for which click has none; empty: there is none."""
    words = error.ctx.command_path.partition(" ")[2] if error.ctx else ""
    own = {name for option in main_group.params for name in option.opts}
    if words and isinstance(error, click.NoSuchOption) and error.option_name in own:
        return f"It goes before the command: fleetctl {error.option_name} … {words}"
    if words and error.message.endswith((".yaml)", ".yml)")):
        return f"All YAML files of a folder are read: fleetctl -C FOLDER {words}"
    return ""


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"--var takes NAME=VALUE, got {text!r}")
    return name, value


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with the documented code."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with harmless_streams():
        _run(arguments)


def _run(arguments: list[str] | None) -> NoReturn:
    try:
        code = main_group.main(args=arguments, prog_name="fleetctl", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        if remedy := _remedy(error):
            click.echo(remedy, err=True)
        sys.exit(USAGE_ERROR)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. The ledger is consistent; run the command again.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as failed:  # noqa: BLE001 (the last guard: no traceback, which holds values)
        shown = problem_of(failed)
        print_diagnostics(shown.diagnostics)
        sys.exit(shown.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
