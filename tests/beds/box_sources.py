"""A source of versions that boxes reach over TLS, on the operator's machine."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beds.boxes import BoxBed
from tests.beds.checkouts import BOXES
from tests.certificates import Authority
from tests.fleetctl.project_on_disk import Project
from tests.runtime.sources.stand_ins import StandIn, serving

OPERATOR = "10.77.0.1"
ADDRESSES = {"box1": "10.77.0.11", "box2": "10.77.0.12"}
NAME, FOLDER = "acme-support-tiny-v2.1.0", "models/adapters/acme/support-v2.1.0"
WEIGHTS = "adapter_model.safetensors"


def moved_away(project: Project, tmp_path: Path) -> Path:
    """Move a version out of library and lock; return its folder."""
    return project.take_out(NAME, FOLDER, tmp_path / "kept")


@contextmanager
def box_source(
    bed: BoxBed, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """Serve a folder to the boxes, whose `curl` knows the authority, and to this machine."""
    authority = Authority(tmp_path / "authority", "sources")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server", address=OPERATOR))
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
    text = Path(authority.ca).read_text("utf-8")
    for box in BOXES:
        script = (
            f"cat >ca.pem <<'end'\n{text}end\necho 'cacert = \"/home/fleetctl/ca.pem\"' >.curlrc"
        )
        bed.do("ssh", box, script)
    try:
        with serving(StandIn(folder, host=OPERATOR, tls=context)) as running:
            yield running
    finally:
        for box in BOXES:
            bed.do("ssh", box, "rm -f ca.pem .curlrc")
