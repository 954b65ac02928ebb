"""A page or a reading that raises ends itself: others are served, and a page tells the code."""

from pathlib import Path

import pytest

from fleet.history import CostTermsChanged
from runtime.messages import FailureMessage, Message
from runtime.web.snapshot import FleetSnapshot, read_fleet
from tests.runtime.web.stage import project, reading, viewing


def test_a_page_that_raises_tells_its_code_and_the_others_are_served(tmp_path: Path) -> None:
    """Before, the page was an empty 500, and the log had a traceback, which holds values."""
    workspace, told = project(tmp_path / "project"), list[Message | FailureMessage]()
    workspace.emit = told.append
    with viewing(workspace, reading(workspace), breaks="drift") as viewer:
        broken = [viewer.http.get("/drift", headers=viewer.session()) for _ in range(2)]
        others = [viewer.http.get(path, headers=viewer.session()) for path in ("/models", "/cost")]
    assert [page.status_code for page in (*broken, *others)] == [500, 500, 200, 200]
    assert "[FC1311]" in broken[0].text
    assert "default-src 'none'" in broken[0].headers["content-security-policy"]
    (failure,) = told  # once, however often the page is asked for
    assert isinstance(failure, FailureMessage)
    assert "UndefinedError at " in failure.diagnostics[0].detail


def test_a_reading_that_raises_is_told_on_the_page_and_the_next_is_made(tmp_path: Path) -> None:
    """Before, the task of readings ended, and every page waited for ever."""
    workspace = project(tmp_path / "project")
    readings: list[FleetSnapshot | Exception] = [KeyError("sk-secret"), reading(workspace)]
    readings.append(ValueError("sk-secret"))

    def read(_: FleetSnapshot | None) -> FleetSnapshot:
        found = readings.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with viewing(workspace, reading(workspace), read=read) as viewer:
        first = viewer.http.get("/", headers=viewer.session())
        viewer.http.runner.run(viewer.pages.reader.refresh())
        sound = viewer.http.get("/", headers=viewer.session())
        viewer.http.runner.run(viewer.pages.reader.refresh())
        old = viewer.http.get("/", headers=viewer.session())
    assert [page.status_code for page in (first, sound, old)] == [503, 200, 200]
    assert "[FC6110]" in first.text
    assert "Old figures." not in sound.text
    assert "[FC1311]: ValueError at test_broken_pages.py" in old.text.partition("Old figures.")[2]
    assert "sk-secret" not in first.text + old.text


def test_a_bill_that_raises_is_told_on_its_page(tmp_path: Path) -> None:
    """Before, 3 pages answered 500: the task of bills had ended, and no bill was made again."""
    workspace = project(tmp_path / "project")
    mars = {"currency": "EUR", "timezone": "Mars/Olympus", "idle": "reserved", "storage": 0}
    workspace.ledger.open().append([CostTermsChanged({"fleet": mars})])
    with viewing(workspace, reading(workspace)) as viewer:
        pages = [
            viewer.http.get(path, headers=viewer.session()) for path in ("/cost", "/clients", "/")
        ]
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert ["[FC1311]" in page.text for page in pages] == [True, True, False]


def test_a_map_that_cannot_be_made_leaves_the_reading_and_a_note(tmp_path: Path) -> None:
    """Before, a KeyError ended the reading: 0 of 16 pages."""
    workspace = project(tmp_path / "project")

    def hosts(*_: object) -> list[dict[str, str]]:
        raise KeyError("sk-secret")

    seen = read_fleet(workspace, hosts, None)
    (note,) = [note for note in seen.notes if "FC1311" in note]
    assert "[FC1311]: This ended the map of devices, and nothing else. KeyError at " in note
    assert (len(seen.hosts), len(seen.rollouts) > 0) == (0, True)


@pytest.mark.parametrize("path", ["/cost.json", "/cost.csv", "/metrics"])
def test_programs_are_told_too(tmp_path: Path, path: str) -> None:
    workspace = project(tmp_path / "project")
    readings = [reading(workspace)]
    with viewing(workspace, reading(workspace), read=lambda _: readings.pop()) as viewer:
        viewer.http.get("/", headers=viewer.session())
        viewer.http.runner.run(viewer.pages.reader.refresh())  # IndexError
        assert viewer.http.get(path, headers=viewer.bearer()).status_code == 200
