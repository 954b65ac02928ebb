from pathlib import Path

import pytest

from runtime.engines import store
from runtime.engines.store import SourceFolder, TransferReport


@pytest.mark.parametrize(("seconds", "reports"), [(60.0, 0), (0.0, 3)])
def test_a_transfer_is_reported_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, reports: int
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "weights").write_bytes(bytes(8))
    monkeypatch.setattr(store, "_REPORT_S", seconds)
    told: list[tuple[str, int, int]] = []
    source = SourceFolder.of(tmp_path / "tiny", ["weights"])
    tell = TransferReport("box1", source, lambda *report: told.append(report))
    for done in (2, 4, 8):
        tell(done, source.size)
    assert told == [("tiny to box1", done, 8) for done in (2, 4, 8)][:reports]
