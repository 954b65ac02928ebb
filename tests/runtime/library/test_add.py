"""Adding: checked, copied, pinned; a version never changes, whatever is tried."""

import json
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.config.files.lockfile import Lock
from fleet.errors import ConfigError, FleetError, LibraryError
from fleet.names import AdapterName
from runtime.library.add import AddedVersion, KnownBase, add
from runtime.library.catalog import catalogue, verify
from runtime.library.layout import folder_digest, version_folder
from runtime.project.facts import read_lock
from tests.runtime.library.synthetic import BASE, adapter

TINY = KnownBase("tiny", "models/base/tiny", BASE)
NAME = AdapterName.parse("acme-support-tiny-v2.1.0")


def put(root: Path, source: Path, name: AdapterName = NAME, base: KnownBase = TINY) -> AddedVersion:
    return add(source, name, base, root / "models", root)


def codes(error: FleetError) -> list[str]:
    return [each.code for each in error.diagnostics]


def test_a_version_is_copied_and_pinned_with_what_belongs_to_it(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out", 8)
    (source / "training.json").write_text('{"seed": 1}')
    (source / "README.md").write_text("# how")
    (source / "evals").mkdir()
    (source / "evals" / "golden.json").write_text('{"accuracy": 0.97}')
    (source / "optimizer.pt").write_bytes(b"large")
    done = put(tmp_path, source)
    assert done.outcome == "added"
    assert done.left_out == ("optimizer.pt",)
    assert done.folder == tmp_path / "models/adapters/acme/support-v2.1.0"
    assert sorted(each.name for each in done.folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "evals",
        "training.json",
    ]
    assert (done.folder / "evals" / "golden.json").read_text() == '{"accuracy": 0.97}'
    locked = read_lock(tmp_path).adapters[str(NAME)]
    assert (locked.digest, locked.rank, locked.base) == (folder_digest(source), 8, "tiny")
    assert read_lock(tmp_path).bases["tiny"] == BASE


def test_served_files_are_read_only_and_results_can_still_be_added(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    (source / "evals").mkdir()
    folder = put(tmp_path, source).folder
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o444
    (folder / "evals" / "later.json").write_text("{}")
    assert all(each.fine for each in verify(tmp_path / "models", read_lock(tmp_path)))


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    put(tmp_path, source)
    before = (tmp_path / "fleet.lock").stat()
    done = put(tmp_path, source)
    assert done.outcome == "present"
    after = (tmp_path / "fleet.lock").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_bytes_under_the_same_name_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    put(tmp_path, adapter(tmp_path / "out"))
    before = (tmp_path / "fleet.lock").read_bytes()
    with pytest.raises(LibraryError) as caught:
        put(tmp_path, adapter(tmp_path / "again", seed=1))
    assert codes(caught.value) == ["FC3011"]
    assert caught.value.diagnostics[0].command.endswith("--as acme-support-tiny-v2.1.1")
    assert (tmp_path / "fleet.lock").read_bytes() == before
    assert all(each.fine for each in verify(tmp_path / "models", read_lock(tmp_path)))


def test_other_bytes_are_refused_even_where_the_lock_was_lost(tmp_path: Path) -> None:
    put(tmp_path, adapter(tmp_path / "out"))
    (tmp_path / "fleet.lock").unlink()
    with pytest.raises(LibraryError) as caught:
        put(tmp_path, adapter(tmp_path / "again", seed=1))
    assert codes(caught.value) == ["FC3011"]
    assert not (tmp_path / "fleet.lock").exists()


def test_other_bytes_are_refused_even_where_the_library_was_lost(tmp_path: Path) -> None:
    put(tmp_path, adapter(tmp_path / "out"))
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(LibraryError) as caught:
        put(tmp_path, adapter(tmp_path / "again", seed=1))
    assert codes(caught.value) == ["FC3011"]
    assert not (tmp_path / "models").exists()


def test_a_lost_library_folder_is_restored_from_the_same_bytes(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    folder = put(tmp_path, source).folder
    shutil.rmtree(folder)
    assert put(tmp_path, source).outcome == "added"
    assert folder_digest(folder) == folder_digest(source)


def test_a_changed_version_in_the_library_is_not_covered_up(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    folder = put(tmp_path, source).folder
    (folder / "adapter_config.json").chmod(0o644)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(LibraryError, match="holds digest"):
        put(tmp_path, source)


def test_a_version_in_its_place_is_only_pinned(tmp_path: Path) -> None:
    place = adapter(version_folder(tmp_path / "models", NAME))
    assert put(tmp_path, place).outcome == "locked"
    assert put(tmp_path, place).outcome == "present"
    assert stat.S_IMODE((place / "adapter_config.json").stat().st_mode) == 0o444


def test_what_must_not_be_served_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(LibraryError):
        put(tmp_path, adapter(tmp_path / "out", use_dora=True))
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_version_belongs_to_one_base(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    put(tmp_path, source)
    other = replace(NAME, base="other")
    with pytest.raises(LibraryError) as caught:
        put(tmp_path, source, other, replace(TINY, name="other"))
    assert codes(caught.value) == ["FC3012"]


def test_a_base_of_other_dimensions_needs_another_name(tmp_path: Path) -> None:
    put(tmp_path, adapter(tmp_path / "out"))
    grown = replace(TINY, shape=replace(BASE, vocab_size=128))
    with pytest.raises(LibraryError, match="vocab_size 64 -> 128") as caught:
        put(tmp_path, tmp_path / "out", AdapterName.parse("acme-faq-tiny-v1.0.0"), grown)
    assert codes(caught.value) == ["FC3013"]


def test_a_base_whose_weights_were_quantised_keeps_its_name(tmp_path: Path) -> None:
    put(tmp_path, adapter(tmp_path / "out"))
    smaller = replace(TINY, shape=replace(BASE, weight_bytes=250))
    put(tmp_path, tmp_path / "out", AdapterName.parse("acme-faq-tiny-v1.0.0"), smaller)
    assert read_lock(tmp_path).bases["tiny"].weight_bytes == 250


def test_adding_at_the_same_time_loses_no_version(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    names = [AdapterName.parse(f"acme-t{index}-tiny-v1.0.0") for index in range(12)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda name: put(tmp_path, source, name), names))
    assert {each.outcome for each in done} == {"added"}
    assert set(read_lock(tmp_path).adapters) == set(map(str, names))
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"out", "models", "fleet.lock"}


def test_the_same_version_added_at_the_same_time_is_added_once(tmp_path: Path) -> None:
    sources = [adapter(tmp_path / f"out{index}", seed=index) for index in range(4)]

    def outcome(source: Path) -> str:
        try:
            return put(tmp_path, source).outcome
        except LibraryError as error:
            return codes(error)[0]

    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(outcome, sources))
    assert found == ["FC3011", "FC3011", "FC3011", "added"]
    assert all(each.fine for each in verify(tmp_path / "models", read_lock(tmp_path)))


def test_a_lock_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "fleet.lock").write_text("<<<<<<< ours\n")
    with pytest.raises(ConfigError):
        put(tmp_path, adapter(tmp_path / "out"))
    assert (tmp_path / "fleet.lock").read_text() == "<<<<<<< ours\n"


def test_a_project_that_does_not_exist_is_told_to_people(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    with pytest.raises(LibraryError) as caught:
        add(source, NAME, TINY, tmp_path / "models", tmp_path / "nowhere")
    assert codes(caught.value) == ["FC3019"]


def test_verify_tells_changed_missing_and_unpinned_versions_apart(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    names = [AdapterName.parse(f"acme-{task}-tiny-v1.0.0") for task in ("a", "b", "c", "d")]
    folders = [put(tmp_path, source, name).folder for name in names]
    weights = folders[1] / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    shutil.rmtree(folders[2])
    (folders[3] / "adapter_config.json").unlink()
    adapter(tmp_path / "models/adapters/birch/faq-v0.1.0")
    found = verify(tmp_path / "models", read_lock(tmp_path))
    assert [(each.name, each.state, each.fine) for each in found] == [
        ("acme-a-tiny-v1.0.0", "ok", True),
        ("acme-b-tiny-v1.0.0", "changed", False),
        ("acme-c-tiny-v1.0.0", "missing", False),
        ("acme-d-tiny-v1.0.0", "missing", False),
        ("birch-faq-v0.1.0", "unlocked", True),
    ]
    chosen = verify(tmp_path / "models", read_lock(tmp_path), ["acme-a-tiny-v1.0.0"])
    assert [each.state for each in chosen] == ["ok"]


def test_the_catalogue_joins_lock_and_library(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    for version in ("1.10.0", "1.9.0"):
        put(tmp_path, source, AdapterName.parse(f"acme-faq-tiny-v{version}"))
    gone = put(tmp_path, source, AdapterName.parse("acme-faq-tiny-v1.8.0")).folder
    shutil.rmtree(gone)
    extra = adapter(tmp_path / "models/adapters/birch/faq-v0.1.0")
    (extra / "training.json").write_text('{"base": "tiny", "seed": 7}')
    (extra / "evals").mkdir()
    for name, text in (("golden", '{"accuracy": 0.9}'), ("hard", '{"accuracy": 0.8}')):
        (extra / "evals" / f"{name}.json").write_text(text)
    (extra / "evals" / "broken.json").write_text("{")
    (tmp_path / "models/adapters/birch/no version").mkdir()
    (tmp_path / "models/adapters/birch/faq-v1").mkdir()
    found = catalogue(tmp_path / "models", read_lock(tmp_path))
    assert [(each.name, each.locked is not None, each.in_library) for each in found] == [
        ("acme-faq-tiny-v1.8.0", True, False),
        ("acme-faq-tiny-v1.9.0", True, True),
        ("acme-faq-tiny-v1.10.0", True, True),
        ("birch-faq-tiny-v0.1.0", False, True),
    ]
    assert found[-1].training["seed"] == 7
    assert found[-1].accuracy == pytest.approx(0.8)
    assert found[0].accuracy is None


def test_an_empty_library_is_no_error(tmp_path: Path) -> None:
    assert catalogue(tmp_path / "models", Lock()) == ()
    assert verify(tmp_path / "models", Lock()) == ()


def test_a_lock_is_one_version_a_line(tmp_path: Path) -> None:
    source = adapter(tmp_path / "out")
    for task in ("b", "a"):
        put(tmp_path, source, AdapterName.parse(f"acme-{task}-tiny-v1.0.0"))
    lines = (tmp_path / "fleet.lock").read_text().splitlines()
    pinned = [line for line in lines if '"digest"' in line]
    assert [line.split('"')[1] for line in pinned] == ["acme-a-tiny-v1.0.0", "acme-b-tiny-v1.0.0"]
    assert json.loads("\n".join(lines))["format"] == 1
