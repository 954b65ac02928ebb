"""Declarations whose paths lead out of the project, and links that do."""

import itertools
from pathlib import Path

from tests.attacks.conftest import FLEET, OUTSIDE, call, declare

CLIENT = """\
clients:
  acme:
    keys: {{prod: "{key}"}}
    notify: {{webhook: "{webhook}", template: "{template}"}}
    adapters:
      support:
        base: tiny
        version: "1.0.0"
        golden: "{golden}"
        rolling: "{rolling}"
        format: {{json_schema: "{schema}"}}
        smoke: [a, b, c, d, e]
"""
PLAIN = {
    "key": "env:ACME_KEY",
    "webhook": "http://127.0.0.1:9/hook",
    "template": "notice.j2",
    "golden": "golden/acme.jsonl",
    "rolling": "golden/rolling.jsonl",
    "schema": "golden/schema.json",
}
"""Paths in the project, by the field that names them."""


def with_client(root: Path, **changed: str) -> None:
    declare(root, CLIENT.format(**{**PLAIN, **changed}))


def with_model(root: Path, path: str) -> None:
    (root / "fleet.yaml").write_text(FLEET.replace("models/base/tiny", path))


def refused(root: Path, *command: str, code: str = "FC1285") -> str:
    """Run a command that must refuse, and return what it said."""
    done = call(root, *(command or ("validate",)))
    assert (done.code, code in done.text) == (1, True), done.text
    assert OUTSIDE not in done.text
    return done.text


def linked(*chain: Path) -> str:
    """Make a chain of links and return the name of the first."""
    for link, target in itertools.pairwise(chain):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
    return str(chain[0])


def with_parents(path: Path) -> tuple[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return (path,)
