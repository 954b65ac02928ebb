"""Files of captured text: bounded, forgotten by the byte, deleted on time."""

from datetime import date
from pathlib import Path

import msgspec
import pytest

from runtime.usage import captured
from runtime.usage.captured import (
    FOLDER,
    CapturedItem,
    CaptureWriter,
    delete_expired,
    forget_captured,
    read_captured,
)


def item(number: int = 1, user: str = "ann", day: str = "2026-11-25") -> CapturedItem:
    raw = msgspec.Raw(b'{\n"messages": []}')
    return CapturedItem(
        f"{day}T12:00:00.000+00:00", f"{number:032x}", "acme-support", "v", "/v1/p", user, "s",
        5, raw, f"answer {number} of {user}",
    )  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for client, gateway in (("acme", "main"), ("acme", "spare"), ("globex", "main")):
        written = CaptureWriter(tmp_path, gateway)
        written.write(client, item(1), 30)
        written.write(client, item(2, "bo"), 30)
        written.write(client, item(3, day="2026-11-26"), 1)
    return tmp_path


def bytes_of(state: Path, client: str) -> bytes:
    return b"".join(path.read_bytes() for path in (state / FOLDER / client).glob("*"))


def test_a_client_is_forgotten_by_the_byte_and_no_other(state: Path) -> None:
    others = bytes_of(state, "globex")
    (state / FOLDER / "acme/.2026-11-25.2026-12-25.main.jsonl.77").write_bytes(b"of a killed run")
    assert len([*read_captured(state, "acme")]) == 6
    assert forget_captured(state, "acme", None) == 6
    assert not (state / FOLDER / "acme").exists()
    assert bytes_of(state, "globex") == others
    assert forget_captured(state, "acme", None) == 0


@pytest.mark.parametrize("client", ["", ".", "..", "../captured/globex", "glob*", "*"])
def test_no_other_name_reaches_a_folder(state: Path, client: str) -> None:
    (state / "gateways").mkdir()
    (state / "gateways/usage.jsonl").write_bytes(b"row\n")
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert forget_captured(state, client, None) == 0
    assert [*read_captured(state, client)] == []
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


def test_a_user_is_forgotten_with_lines_that_nobody_can_read(state: Path) -> None:
    damaged = next((state / FOLDER / "acme").glob("2026-11-25*.main.*"))
    with damaged.open("ab") as file:
        file.write(b'{"user": "an')
    assert forget_captured(state, "acme", "ann") == 5
    assert b"ann" not in bytes_of(state, "acme")
    assert [found.user for found in read_captured(state, "acme")] == ["bo", "bo"]
    assert forget_captured(state, "acme", "s") == 2
    assert not (state / FOLDER / "acme").exists()
    CaptureWriter(state, "main").write("acme", item(4), 30)
    assert len([*read_captured(state, "acme")]) == 1


def test_files_are_deleted_the_day_after_their_last(state: Path) -> None:
    (state / FOLDER / "acme/.2026-11-26.2026-11-27.main.jsonl.77").write_bytes(b"of a killed run")
    delete_expired(state, date(2026, 11, 27))
    assert len([*read_captured(state, "acme")]) == 6
    delete_expired(state, date(2026, 11, 28))
    assert [found.request_id[-1] for found in read_captured(state, "acme")] == ["1", "2"] * 2
    assert not [*(state / FOLDER / "acme").glob(".*")]
    delete_expired(state, date(2026, 12, 26))
    assert [*(state / FOLDER).glob("*")] == []


def test_a_file_takes_a_bounded_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = CaptureWriter(tmp_path, "main")
    written.write("acme", item(1), 30)
    size = len(bytes_of(tmp_path, "acme"))
    monkeypatch.setattr(captured, "MOST_FILE_BYTES", 2 * size)
    for number in range(2, 5):
        written.write("acme", item(number), 30)
    assert len(bytes_of(tmp_path, "acme")) == 2 * size
