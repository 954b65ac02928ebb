"""`fleetctl calibrate`: measure the speed of a running server, for planning."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion
from fleetctl.options import OUTPUT_FILE, Command, Workspace, with_format
from fleetctl.output import waiting

if TYPE_CHECKING:
    from runtime.calibrate.run import Calibration


@click.command(cls=Command)
@click.argument("server", shell_complete=completion.servers)
@click.option("--url", help="URL of the server (default: as observed).")
@click.option("--kind", help="Kind of the server's devices, if not declared.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1, max=100),
    default=5,
    help="Measurements of each batch; the shortest counts.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=16, max=4096),
    default=136,
    help="Output tokens of each request.",
)
@click.option(
    "--largest-batch",
    type=click.IntRange(min=1, max=1024),
    default=64,
    help="Upper bound of concurrent requests.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=20.0,
    help="Start no further round after this time.",
)
@click.option(
    "--out",
    type=OUTPUT_FILE,
    help="File to write (default: calibration/BASE-KIND-rRANK.json in the project).",
)
@click.option("--force", is_flag=True, help="Measure although clients use the server.")
@with_format
def command(
    workspace: Workspace,
    /,
    server: str,
    url: str | None,
    kind: str | None,
    out: Path | None,
    *,
    force: bool,
    form: str,
    **budget: Any,
) -> None:
    """Measure a running server's speed, so that plans use measured values.

    Sends batches of requests, fits the throughput law to the times, and writes a profile that
    `fleetctl plan` reads. Loads, starts and changes nothing. Refused while clients use the
    server.

    Examples:
      fleetctl calibrate tiny-laptop-cpu0
      fleetctl calibrate llama3-gpu1-a --largest-batch 128 --minutes 30
      fleetctl calibrate llama3-elsewhere --kind h100_80g --out measured.json
    """
    import asyncio

    from runtime.calibrate.measure import CalibrationBudget, target_of
    from runtime.calibrate.run import FOLDER, calibrate, file_name, profile_text
    from runtime.files import replace_file

    fleet = workspace.project.fleet()
    with waiting("Observing the servers…"):
        state = workspace.machines.observe()
    target = target_of(fleet, state, server, url, kind, kept=out is None)
    calibration = asyncio.run(
        calibrate(
            target,
            CalibrationBudget(**budget),
            lambda line: click.echo(line, err=True),
            force=force,
        )
    )
    path = out or workspace.root / FOLDER / file_name(calibration.profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = profile_text(calibration, server, workspace.now())
    replace_file(path, text.encode(), mode=0o644)
    click.echo(text if form == "json" else _table(calibration), nl=False)
    click.echo(f"wrote {path}", err=True)
    _warn_of_residual(calibration)


def _warn_of_residual(calibration: "Calibration") -> None:
    from fleet.capacity import WORST_RESIDUAL

    if calibration.profile.residual > WORST_RESIDUAL:
        click.echo(
            f"warning: the law is off by {100 * calibration.profile.residual:.0f} % somewhere, so "
            "planning will not use this profile. Measure again in a quieter hour, with more "
            "rounds.",
            err=True,
        )


def _table(calibration: "Calibration") -> str:
    speed, profile = calibration.profile.speed, calibration.profile
    lines = ["requests  adapters   ms/step       law    error  tokens/s"]
    lines += [
        f"{row.batch:8}  {row.adapters:8}  {1000 * row.measured_s:8.2f}  "
        f"{1000 * row.fitted_s:8.2f}  {100 * row.error:+5.1f} %  {row.batch / row.measured_s:8.0f}"
        for row in calibration.rows
    ]
    reserve, requests = profile.reserve_bytes, calibration.requests
    step, request = 1000 * speed.step_s, 1000 * speed.request_s
    lora_step, lora_request = (1000 * seconds for seconds in speed.adapted)
    lines += [
        "",
        f"base alone     {step:.3f} ms a step, and {request:.4f} ms more for each request",
        f"any LoRA       {lora_step:.3f} ms, and {lora_request:.4f} ms",
        f"each further   {100 * speed.spread:.2f} % more per active adapter",
        f"prompt token   {speed.prompt_weight:.3f} decoded tokens",
        *([f"reserve        {reserve / (1 << 30):.2f} GiB per device"] if reserve else []),
        f"residual       {100 * profile.residual:.1f} % at most",
        f"measured       {requests} requests in {calibration.seconds:.0f} s, vLLM {profile.vllm}",
        *(f"note           {note}" for note in calibration.notes),
    ]
    return "\n".join(lines) + "\n"
