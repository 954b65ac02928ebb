"""Two boxes fetch a version from its source; what one of them gets, or keeps, is damaged."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.beds.box_sources import ADDRESSES, NAME, WEIGHTS, box_source, moved_away
from tests.beds.boxes import BoxBed
from tests.beds.checkouts import BOXES, converges
from tests.beds.engine_bench import STORE_THERE
from tests.fleetctl.project_on_disk import Project
from tests.runtime.sources.stand_ins import StandIn

pytestmark = pytest.mark.boxes
UNIT = "fleetctl-tiny-box1-cpu0.service"


@pytest.fixture
def source(
    bed: BoxBed, checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """The source of a version of the checkout, whose boxes fetch for themselves."""
    file = checkout.root / "fleet.yaml"
    text = file.read_text("utf-8")
    python = "    python: fake/bin/python\n"
    assert text.count(python) == len(BOXES)
    file.write_text(text.replace(python, f"{python}    fetch: true\n"), "utf-8")
    kept = moved_away(checkout, tmp_path)
    with box_source(bed, kept, tmp_path, monkeypatch) as running:
        for words in (("adapter", "add", f"{running.url}/files/", "--as", NAME),
                      ("trust", "add", running.url)):  # fmt: skip
            done = checkout.run(*words)
            assert done.returncode == 0, done.stderr
        running.sent_to.clear()
        yield running


def damage_for(source: StandIn, box: str) -> None:
    """Let a box get other weights than the source has, as from a broken cache on the way."""
    content = bytearray((source.folder / WEIGHTS).read_bytes())
    content[-1] ^= 1

    def fault(request: web.Request) -> web.Response | None:
        is_hit = request.remote == ADDRESSES[box] and request.path.endswith(WEIGHTS)
        return web.Response(body=bytes(content)) if is_hit else None

    source.fault = fault


def path_of(project: Project) -> str:
    """Return the path of the version's first copy on a box."""
    lock = json.loads((project.root / "fleet.lock").read_text("utf-8"))
    return f"{STORE_THERE}/{lock['adapters'][NAME]['digest']}"


def loaded_from(bed: BoxBed, box: str) -> str:
    """Return the path from which a box's server may load the version."""
    text = bed.do("ssh", box, "cat .local/share/fleetctl/servers/tiny-*/adapters.json")
    return str(json.loads(text)[NAME]["path"])


def drift(project: Project) -> tuple[int, str]:
    done = project.run("drift")
    return done.returncode, done.stdout + done.stderr


def test_what_arrives_damaged_on_one_box_is_told_and_sent_from_here(
    bed: BoxBed, checkout: Project, source: StandIn
) -> None:
    damage_for(source, "box1")
    done = checkout.run("apply", "--auto", "--yes")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert f"`box1` did not fetch `{WEIGHTS}` as its digest says" in told
    assert "`box2` did not fetch" not in told
    size = sum(path.stat().st_size for path in source.folder.glob("adapter_*"))
    assert source.sent_to[ADDRESSES["box2"]] == size
    assert source.sent_to[ADDRESSES["box1"]] < size
    for box in BOXES:
        assert loaded_from(bed, box) == path_of(checkout)
    assert drift(checkout)[0] == 0


def test_a_copy_that_is_damaged_on_one_box_is_not_loaded_and_the_other_box_answers(
    bed: BoxBed, checkout: Project, source: StandIn
) -> None:
    """The copy changes, the server starts anew, and neither the source nor `rsync` helps box1."""
    converges(checkout)
    started = checkout.run("gateway", "start")
    assert started.returncode == 0, started.stderr
    path = path_of(checkout)
    weights = f"{path}/{WEIGHTS}"
    bed.do("ssh", "box1", f"chmod u+w {weights}; printf x | dd of={weights} conv=notrunc bs=1")
    show = f"systemctl --user show -P MainPID {UNIT}"
    bed.do("ssh", "box1", f"pid=$({show}); kill -9 $pid; while [ $({show}) = $pid ]; do :; done")
    damage_for(source, "box1")
    bed.do("root", "box1", "mv /usr/bin/rsync /usr/bin/rsync.away")
    try:
        code, told = drift(checkout)
        assert (code, "server/tiny-box1-cpu0" in told) == (2, True), told
        done = checkout.run("apply", "--auto", "--yes")
        told = done.stdout + done.stderr
        assert done.returncode == 4, told
        assert "[FC4097]" in told
        assert (
            f"the copy at `{path}` of `box1` has other bytes than its digest in `{WEIGHTS}`" in told
        )
        assert f"Before, `box1` did not fetch `{WEIGHTS}` as its digest says." in told
        assert "Mend its source, or the way from there to the host." in told
        there = bed.do("ssh", "box1", f"ls {STORE_THERE}")
        assert f"{Path(path).name}-2\n" not in there
        assert [answered(checkout) for _ in range(10)] == [NAME] * 10
        code, told = drift(checkout)
        assert (code, "could not be done, and is still due" in told) == (2, True), told
        source.fault = lambda _: None
        source.sent_to.clear()
        converges(checkout)
        assert source.sent_to[ADDRESSES["box1"]] > 0
        assert source.sent_to[ADDRESSES["box2"]] == 0
        assert loaded_from(bed, "box1") == f"{path}-2"
        assert loaded_from(bed, "box2") == path
        code, told = drift(checkout)
        assert code == 0, told
    finally:
        bed.do("root", "box1", "mv /usr/bin/rsync.away /usr/bin/rsync")
        checkout.run("gateway", "stop")


def answered(project: Project) -> str:
    """Ask through the gateway; return the version that answered."""
    key = (project.root / ".fleetctl/keys/acme-prod").read_text("utf-8").strip()
    file = (project.root / "fleet.yaml").read_text("utf-8")
    listen = file.partition('main: {listen: "')[2].partition('"')[0]
    asked = {"model": "acme-support", "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"http://{listen}/v1/chat/completions",
        data=json.dumps(asked).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return str(answer.headers["x-fleetctl-version"])
