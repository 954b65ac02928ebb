"""Times a retraining from its data to all of an alias's traffic, by commands alone, on a real vLLM.

    python -m tests.bench.retraining [--bake 2m]

The commands are those that a job runs: `retrain run` (trains, adds the version, declares it),
`apply`, and `reconcile --once` every few seconds until the version answers everybody.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY, Project

ALIAS, VERSION = "acme-triage", "1.0.1"
PAUSE_S = 5.0
"""Time between two rounds of `reconcile`. Seconds."""


def must(project: Project, *words: str) -> Done:
    """Run a command, which must succeed."""
    done = call(project, *words)
    if done.returncode:
        sys.exit(f"fleetctl {' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def prepare(folder: Path, python: Path, bake: str) -> Project:
    """Return the quickstart fleet, served, with its training script and a gate on answers."""
    project = Project.copy(folder, python)
    shutil.copytree(QUICKSTART / "training", project.root / "training")
    train = [
        str(python), "training/retrain.py", "{alias}", "{version}", "--out", "{folder}",
        "--threads", "2",
    ]  # fmt: skip
    fleet = project.root / "fleet.yaml"
    kept = [
        line for line in fleet.read_text("utf-8").splitlines(keepends=True)
        if "  retrain: [" not in line
    ]  # fmt: skip
    text = "".join(kept).replace("defaults:\n", f"defaults:\n  retrain: {json.dumps(train)}\n")
    text = text.replace("bake: 24h, retain: 7d, gates: []", f"bake: {bake}, gates: [answers]")
    fleet.write_text(f"{text}gates: {{answers: {{metric: accuracy_drop, max: 5pp}}}}\n", "utf-8")
    must(project, "gateway", "start")
    must(project, "apply", "--auto", "--yes")
    return project


def share(project: Project) -> int:
    """Return the percentage of the alias's users that the new version answers."""
    status = json.loads(must(project, "status", "--format", "json").stdout)
    route = next(alias for alias in status["aliases"] if alias["alias"] == ALIAS)
    return {each["version"]: int(each["percent"]) for each in route["versions"]}.get(VERSION, 0)


def main() -> int:
    """Time each leg and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bake", default="2m", help="How long each share bakes.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retraining-") as folder:
        python = REPOSITORY / ".venv-vllm/bin/python"
        project = prepare(Path(folder) / "project", python, given.bake)
        try:
            began = last = time.monotonic()

            def leg(name: str) -> None:
                nonlocal last
                now = time.monotonic()
                print(f"{name:58} {now - last:7.1f} s  {now - began:7.1f} s in all", flush=True)
                last = now

            must(project, "retrain", "run", ALIAS)
            leg("retrain run: trained, evaluated, added, declared")
            must(project, "apply", "--auto", "--yes")
            leg("apply: checked, loaded, smoke-tested")
            before = share(project)
            while before < 100:
                must(project, "reconcile", "--once")
                if (now := share(project)) != before:
                    what = "golden set passed" if not before else f"{before} % baked {given.bake}"
                    leg(f"reconcile: {what}, {now} % of the users")
                    before = now
                else:
                    time.sleep(PAUSE_S)
            print(f"\nFrom data to all traffic: {(last - began) / 60:.1f} minutes.")
        finally:
            project.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
