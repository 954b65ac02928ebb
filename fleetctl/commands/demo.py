"""`fleetctl demo`: the story of the quickstart fleet, played by the script of the examples."""

import os
import sys

import click

from fleetctl.options import Call, Command


@click.command(cls=Command)
@click.option("--fake", is_flag=True, help="On the fake engine: a minute, and answers are made up.")
@click.option(
    "--model",
    type=click.Choice(["quickstart", "smollm2"]),
    default="quickstart",
    help="The fleet; smollm2 in a checkout, after `make smollm2`.",
)
@click.pass_obj
def command(call: Call, *, fake: bool, model: str) -> None:
    """Play plan, apply, canary, rollback, drift and healing on a fleet of seven clients.

    The fleet is a copy in `.demo`, to look around in afterwards. Servers and gateway are stopped at
    the end. Without --fake, vLLM must be in this folder: `fleetctl vllm install --cpu`.

    Examples:
      fleetctl demo --fake
      fleetctl demo
    """
    from fleet.errors import FleetError
    from runtime.extensions import shipped
    from runtime.operations.machines.vllm_install import FOLDER

    root = call.root.absolute()
    if not fake and not (root / FOLDER / "bin" / "python").exists():
        detail = f"There is no vLLM in `{root / FOLDER}`, on which the demo plays."
        hint = "Play on the fake engine with `fleetctl demo --fake`, or install vLLM (3.4 GB)."
        raise FleetError.of(
            "FC4018", "A server cannot be started", detail, hint=hint,
            command="fleetctl vllm install --cpu",
        )  # fmt: skip
    if not shipped(f"examples/{model}").is_dir():
        raise click.UsageError(
            f"{model} is not part of an installed fleetctl: play it in a checkout"
        )
    script = str(shipped("examples/demo.py"))
    options = ["--model", model, "--into", str(root), *(["--fake"] if fake else [])]
    os.execv(sys.executable, [sys.executable, script, *options])  # noqa: S606 (ends as the story does)
