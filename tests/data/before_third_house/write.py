"""Writes the artefacts beside it: `python -m tests.data.before_third_house.write`, on Linux.

`project/` is read, all else is written anew, by really running the product. For the next upgrade
copy the folder, run the copy's script before anything is changed, and test both folders.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project
from tests.fleetctl.webhook import webhook
from tests.witness import ADDRESS, OUTPUTS, PLANS, ROOT, Witness, ask, lay_out

HERE = Path(__file__).parent
KEYS = ("acme-prod", "acme-staging", "birch-prod", "evergreen-prod", "fjord-prod", "globe-prod")
KEPT_OUT = ("store", "*.lock", "log", "admin.sock", "ledger-as-last-read.jsonl")
"""Too large, made anew by each run, or the same bytes once more."""
FORMAT = 'format: {regex: "[a-z]+-[0-9a-f]+ .*"}'


def write() -> None:
    """Play the story in `ROOT`, then store what is left and what commands print of that."""
    witness = Witness(HERE, Project(Path(ROOT), ()), ADDRESS)
    shutil.copytree(HERE / "project", ROOT, ignore=shutil.ignore_patterns("fleet.lock"))
    shutil.copytree(QUICKSTART / "models" / "base", f"{ROOT}/models/base")
    (witness.state / "keys").mkdir(parents=True)
    (witness.state / "operator.secret").write_text("operator-of-the-witness\n", "utf-8")
    for key in KEYS:
        (witness.state / "keys" / key).write_text(f"{sha256(key.encode()).hexdigest()}\n", "utf-8")
    with webhook() as hook:
        os.environ["BEFORE_THE_MOVE_WEBHOOK"] = hook.url
        try:
            _play(witness)
            _store(witness)  # before servers are stopped, which ends their launch records
        finally:
            del os.environ["BEFORE_THE_MOVE_WEBHOOK"]
            witness.project.clean_up()
            shutil.rmtree(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        _print(lay_out(HERE, Path(folder) / "project"))


def _do(witness: Witness, *arguments: str, code: int = 0, actor: str = "ana") -> str:
    done = call(witness.project, *arguments, actor=actor)
    sys.stdout.write(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    assert done.returncode == code, done.stdout
    return done.stdout


def _change(witness: Witness, old: str, new: str) -> None:
    path = witness.project.root / "clients" / "acme.yaml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def _asked(witness: Witness, alias: str, count: int, who: str) -> str:
    """Ask as users of their own; return the first answer."""
    first, *_ = [ask(witness, alias, f"question {n}", f"{who}-{n}") for n in range(count)]
    return first


def _play(witness: Witness) -> None:
    for version in (
        *(f"acme/support-v2.{minor}.0" for minor in (1, 2, 3, 4)),
        *("acme/triage-v1.0.0", "birch/units-v1.0.0", "evergreen/pii-v1.2.0"),
        *("fjord/reviews-v1.0.0", "globe/language-v1.0.0"),
    ):
        name = version.replace("/", "-").replace("-v", "-tiny-v")
        source = QUICKSTART / "models" / "adapters" / version
        _do(witness, "adapter", "add", str(source), "--as", name)
    _change(witness, '"2.4.0"', '"2.1.0"')
    _do(witness, "gateway", "start")
    _do(witness, "apply", "--auto", "--yes")
    first = _asked(witness, "acme-support", 20, "before").split()[0]
    _asked(witness, "birch-units", 4, "foreman")
    _asked(witness, "fjord-reviews", 3, "reader")
    _do(witness, "usage", "compact")
    _rolled_back_by_a_gate(witness, first)
    _through_all_stages(witness)
    _rolled_back_by_a_person(witness)
    _do(witness, "rollback", "acme-support", "--drill")
    _half_way(witness)
    _do(witness, "eval", "run", "birch-units", "fjord-reviews", "--through", "server")
    _do(witness, "eval", "run", "acme-triage")
    _do(witness, "retrain", "claim", "fjord-reviews", "--reason", "new catalogue", "--for", "3d")
    _do(witness, "retrain", "claim", "birch-units", "--reason", "by mistake")
    _do(witness, "retrain", "release", "birch-units", "--reason", "by mistake")
    _asked(witness, "evergreen-pii", 3, "clerk")
    _do(witness, "plan", "--save-live", str(witness.project.root / "live.json"))
    _do(witness, "plan", "--detailed-exitcode")


def _rolled_back_by_a_gate(witness: Witness, first: str) -> None:
    """Let 2.2.0 pass its golden set and fail by the form of its answers at 50 percent."""
    _change(witness, FORMAT, f'format: {{regex: "{first}.*"}}')
    _change(witness, '"2.1.0"', '"2.2.0"')
    _do(witness, "apply", "--auto", "--yes")
    _do(witness, "reconcile", "--once", actor="reconciler")
    _asked(witness, "acme-support", 40, "user")
    _do(witness, "reconcile", "--once", code=3, actor="reconciler")
    _change(witness, f'format: {{regex: "{first}.*"}}', FORMAT)
    _do(witness, "release", "acme-support", "--reason", "the form was wrong, not the answers")
    time.sleep(1.1)  # the bake


def _through_all_stages(witness: Witness) -> None:
    """Bring 2.3.0 from 0 to 100 percent, with a word of people on the way."""
    _change(witness, '"2.2.0"', '"2.3.0"')
    _do(witness, "apply", "--auto", "--yes")
    _do(witness, "rollout", "pause", "acme-support", "--for", "4h", "--reason", "a launch")
    _do(witness, "reconcile", "--once", actor="reconciler")
    _do(witness, "rollout", "resume", "acme-support", "--reason", "launched", actor="ben")
    _do(witness, "reconcile", "--once", actor="reconciler")
    _asked(witness, "acme-support", 200, "buyer")
    time.sleep(1.1)  # the bake
    for _ in range(2):
        _do(witness, "reconcile", "--once", actor="reconciler")


def _rolled_back_by_a_person(witness: Witness) -> None:
    _do(witness, "rollback", "acme-support", "--reason", "wrong refunds", actor="ben")
    _do(witness, "release", "acme-support", "--version", "2.3.0", "--reason", "refunds are right")
    for _ in range(3):
        _do(witness, "reconcile", "--once", actor="reconciler")
        _asked(witness, "acme-support", 200, "returner")
        time.sleep(1.1)  # the bake


def _half_way(witness: Witness) -> None:
    """Leave 2.4.0 at 50 percent, where a person keeps it."""
    _change(witness, '"2.3.0"', '"2.4.0"')
    _do(witness, "apply", "--auto", "--yes")
    _do(witness, "reconcile", "--once", actor="reconciler")
    _asked(witness, "acme-support", 24, "guest")
    _do(witness, "rollout", "hold", "acme-support", "--reason", "read 50 answers first")


def _store(witness: Witness) -> None:
    """Keep the state folder, the lock and the live file, without what is of this machine."""
    root = witness.project.root
    shutil.rmtree(HERE / "state", ignore_errors=True)
    shutil.copytree(witness.state, HERE / "state", ignore=shutil.ignore_patterns(*KEPT_OUT))
    shutil.copyfile(root / "fleet.lock", HERE / "project" / "fleet.lock")
    shutil.copyfile(root / "live.json", HERE / "live.json")
    for path in (HERE / "live.json", *(HERE / "state").rglob("*.json")):
        path.write_text(witness.as_stored(path.read_text("utf-8")), "utf-8")
    last = json.loads((witness.state / "ledger.jsonl").read_text("utf-8").splitlines()[-1])
    now = datetime.fromisoformat(last["time"]).astimezone(UTC) + timedelta(minutes=10)
    (HERE / "now.txt").write_text(f"{now.isoformat(timespec='seconds')}\n", "utf-8")


def _print(witness: Witness) -> None:
    """Store plans of the live file, a plan to be applied, and what commands print."""
    outputs = HERE / "outputs"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir()
    plan = ("--env", "next", "plan", "--live", str(HERE / "live.json"))
    for name, options in PLANS.items():
        (outputs / name).write_text(_ok(witness, *plan, *options), "utf-8")
    _ok(witness, *plan, "--out", str(HERE / "saved-plan.json"))
    with witness.running():
        for name, arguments in OUTPUTS.items():
            if name == "no_changes.txt":  # a copy listens elsewhere, which is a change of settings
                continue
            (outputs / name).write_text(witness.as_stored(_ok(witness, *arguments)), "utf-8")


def _ok(witness: Witness, *arguments: str) -> str:
    done = witness.call(*arguments)
    sys.stdout.write(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    assert done.returncode == 0
    assert done.stdout
    return done.stdout


if __name__ == "__main__":
    write()
