"""`fleetctl calibrate`: measure the speed of a running server, for planning."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl import completion

if TYPE_CHECKING:
    from runtime.calibrate.run import Calibration
    from runtime.calibrate.target import CalibrationTarget
    from runtime.workspace import Workspace


@click.command(
    name="calibrate",
    epilog="""\b
Examples:
  fleetctl calibrate tiny-laptop-cpu0
  fleetctl calibrate llama3-gpu1-a --largest-batch 128 --minutes 30
  fleetctl calibrate llama3-elsewhere --kind h100_80g --out measured.json
""",
)
@click.argument("server", shell_complete=completion.servers)
@click.option("--url", help="URL of the server (default: as observed).")
@click.option("--kind", help="Kind of the server's devices, if not declared.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1, max=100),
    default=5,
    show_default=True,
    help="Measurements of each batch; the shortest counts.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=16, max=4096),
    default=136,
    show_default=True,
    help="Output tokens of each request.",
)
@click.option(
    "--largest-batch",
    type=click.IntRange(min=1, max=1024),
    default=64,
    show_default=True,
    help="Upper bound of concurrent requests.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Start no further round after this time.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write (default: calibration/BASE-KIND-rRANK.json in the project).",
)
@click.option("--force", is_flag=True, help="Measure although clients use the server.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    workspace: "Workspace",
    server: str,
    url: str | None,
    kind: str | None,
    rounds: int,
    tokens: int,
    largest_batch: int,
    minutes: float,
    out: Path | None,
    *,
    force: bool,
    form: str,
) -> None:
    """Measure a running server's speed, so that plans use measured values.

    Sends batches of requests, fits the throughput law to the times, and writes a profile that
    `fleetctl plan` reads. Loads, starts and changes nothing. Refused while clients use the
    server.
    """
    import asyncio

    from fleet.capacity import WORST_RESIDUAL
    from runtime.calibrate.measure import CalibrationBudget
    from runtime.calibrate.profile import FOLDER, dump, file_name
    from runtime.calibrate.run import calibrate
    from runtime.files import replace_file

    subject = _subject(workspace, server, url, kind, kept=out is None)
    effort = CalibrationBudget(rounds, tokens, largest_batch, minutes)
    made = asyncio.run(
        calibrate(subject, effort, lambda line: click.echo(line, err=True), force=force)
    )
    path = out or workspace.root / FOLDER / file_name(made.profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = dump(made, server, workspace.now())
    replace_file(path, text.encode(), mode=0o644)
    click.echo(text if form == "json" else _table(made), nl=False)
    click.echo(f"wrote {path}", err=True)
    if made.profile.residual > WORST_RESIDUAL:
        click.echo(
            f"warning: the law is off by {100 * made.profile.residual:.0f} % somewhere, so "
            "planning will not use this profile. Measure again in a quieter hour, with more "
            "rounds.",
            err=True,
        )


def _subject(
    workspace: "Workspace", name: str, url: str | None, kind: str | None, *, kept: bool
) -> "CalibrationTarget":
    """Gather what must be known of a server; `kept`: the profile is for planning to read."""
    from fleet.errors import EngineError, did_you_mean, problem
    from fleetctl.output import waiting
    from runtime.calibrate.target import CalibrationTarget

    fleet = workspace.fleet()
    with waiting("Observing the servers…"):
        state = workspace.observe()
    found = state.servers().get(name)
    if found is None:
        why = state.unknown_servers.get(name, "no server of this name was seen").rstrip(".")
        hint = did_you_mean(name, sorted(state.servers()))
        raise EngineError(
            problem(
                "FC4060",
                "No such server runs",
                f"`{name}` cannot be measured: {why}.",
                hint=hint or "Start it with the fleet, or see which servers there are.",
                command="fleetctl status",
            )
        )
    host = fleet.hosts[found.host]
    if host.engine == "fake" and kept:
        raise EngineError(
            problem(
                "FC4065",
                "A fake server has no speed of its own",
                f"`{name}` runs on the fake engine, and plans would rely on its speed.",
                hint="Measure a real server, or pass --out FILE to see what would be written.",
            )
        )
    device = next((each for each in host.devices if each.name in found.devices), None)
    attached = next((each for each in host.attached if each.name == name), None)
    flags = found.flags
    if kind is None and device is not None:
        kind = device.kind
    if kind is None or (flags is None and attached is None):
        what = "kind of device is" if kind is None else "flags are"
        raise EngineError(
            problem(
                "FC4064",
                "Too little is known of a server",
                f"The {what} not known of `{name}`, and a profile needs both.",
                hint="Pass --kind, such as `--kind h100_80g`."
                if kind is None
                else "Bring it back to its declared flags first.",
                command="fleetctl plan" if kind else "",
            )
        )
    return CalibrationTarget(
        server=name,
        url=url or state.urls[name],
        base=fleet.bases[found.base],
        device=device,
        kind=kind,
        tensor_parallel=flags.tensor_parallel if flags else 1,
        max_loras=flags.max_loras if flags else attached.max_loras if attached else 0,
        max_lora_rank=flags.max_lora_rank if flags else attached.max_lora_rank if attached else 0,
        memory_share=flags.memory_share if flags else None,
    )


def _table(made: "Calibration") -> str:
    speed, profile = made.profile.speed, made.profile
    lines = ["requests  adapters   ms/step       law    error  tokens/s"]
    lines += [
        f"{row.batch:8}  {row.adapters:8}  {1000 * row.measured_s:8.2f}  "
        f"{1000 * row.fitted_s:8.2f}  {100 * row.error:+5.1f} %  {row.batch / row.measured_s:8.0f}"
        for row in made.rows
    ]
    reserve = profile.reserve_bytes
    step, request = 1000 * speed.step_s, 1000 * speed.request_s
    lora_step, lora_request = (1000 * each for each in speed.adapted)
    lines += [
        "",
        f"base alone     {step:.3f} ms a step, and {request:.4f} ms more for each request",
        f"any LoRA       {lora_step:.3f} ms, and {lora_request:.4f} ms",
        f"each further   {100 * speed.spread:.2f} % more per active adapter",
        f"prompt token   {speed.prompt_weight:.3f} decoded tokens",
        *([f"reserve        {reserve / (1 << 30):.2f} GiB per device"] if reserve else []),
        f"residual       {100 * profile.residual:.1f} % at most",
        f"measured       {made.requests} requests in {made.seconds:.0f} s, vLLM {profile.vllm}",
        *(f"note           {each}" for each in made.notes),
    ]
    return "\n".join(lines) + "\n"
