"""Print the digest of plans and packings of all folders named: `python reproduce.py FOLDER ...`.

A folder holds a declared fleet in `fleet` with `empty.json` beside, and files to be packed. Run by
several Pythons, so it imports only fleetctl and the standard library.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path
from random import Random

from fleetctl.cli import main_group

ORIGIN = re.compile(r"(?<=\.yaml):\d+:\d+")
"""Line and column of a declaration, which move when declarations are shuffled."""


def printed(*arguments: str) -> str:
    """Run a command in this process; return what it prints on stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            main_group.main(list(arguments), standalone_mode=False)
        except SystemExit as end:
            if end.code:
                raise
    return out.getvalue()


def half_of(plan: str, folder: Path) -> str:
    """Write half of what a plan creates as a live state, shuffled by the folder.

    One server is gone, and its adapters with it; routes still name them.
    """
    made = [each["after"] for each in json.loads(plan)["decisions"]["changes"]]
    servers = [each for each in made if each["kind"] == "server"][1:]
    names = {each["name"] for each in servers}
    others = [each for each in made if each["kind"] in ("adapter", "route")][::2]
    there = servers + [each for each in others if each.get("server") in {None, *names}]
    listed = Random(folder.name).sample(there, len(there))  # noqa: S311
    live = folder / f"half-{os.getpid()}.json"  # others do the same beside this process
    kind = {"format": "fleetctl-live", "format_version": "1.0"}
    live.write_text(json.dumps({**kind, "resources": listed}), encoding="utf-8")
    return str(live)


def packed(path: Path) -> str:
    """Return the bins of a `.vbp` file, each as the sorted rows in it: rows may be shuffled."""
    rows = path.read_text(encoding="utf-8").splitlines()[3:]
    bins: dict[int, list[str]] = {}
    for row, place in zip(rows, json.loads(printed("pack", str(path), "--json")), strict=True):
        bins.setdefault(place, []).append(row)
    return json.dumps(sorted(sorted(each) for each in bins.values()))


def main() -> None:
    """Print one line a folder: the digest of the plan, then what no shuffle may change."""
    for folder in map(Path, sys.argv[1:]):
        plan = ["-C", str(folder / "fleet"), "plan", "--format", "json"]
        whole = printed(*plan, "--live", str(folder / "empty.json"))
        later = printed(*plan, "--live", half_of(whole, folder))
        texts = [
            whole,
            ORIGIN.sub("", whole),
            ORIGIN.sub("", later),
            *(printed("pack", str(each), "--json") for each in sorted(folder.glob("*.bpps"))),
            *(packed(each) for each in sorted(folder.glob("*.vbp"))),
        ]
        digests = [hashlib.sha256(each.encode()).hexdigest() for each in texts]
        sys.stdout.write(" ".join(digests) + "\n")


if __name__ == "__main__":
    main()
