"""What servers read: complete or absent, read-only, and the bytes that the lock pins."""

import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.config import Lock, LockedAdapter
from fleet.errors import LibraryError
from fleet.resources import LoadedAdapter
from runtime.library.layout import folder_digest
from runtime.library.served_copies import damaged, publish, repair_copies
from runtime.state_folder import source_name
from tests.removal import remove_tree
from tests.runtime.library.synthetic import adapter


def writable(path: Path) -> None:
    path.chmod(0o755)
    for each in path.iterdir():
        each.chmod(0o644)


def test_a_digest_is_that_of_the_listing_that_sha256sum_prints(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    listing = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    assert folder_digest(folder) == hashlib.sha256(listing.encode()).hexdigest()


def test_a_digest_covers_the_served_files_and_nothing_else(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    before = folder_digest(folder)
    (folder / "training.json").write_text("{}")
    assert folder_digest(folder) == before
    (folder / "adapter_config.json").write_text("{}")
    assert folder_digest(folder) != before


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_version_without_one_of_its_files_has_no_digest(tmp_path: Path, name: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(LibraryError, match=name):
        folder_digest(folder)


def test_a_copy_holds_the_served_files_only_and_nobody_may_write_it(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    (version / "training.json").write_text("{}")
    digest = folder_digest(version)
    copy = publish(version, digest, tmp_path / "store")
    assert copy == tmp_path / "store" / digest
    assert sorted(each.name for each in copy.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert folder_digest(copy) == digest
    for each in (copy, *copy.iterdir()):
        assert stat.S_IMODE(each.stat().st_mode) & 0o222 == 0
        assert stat.S_IMODE(each.stat().st_mode) & 0o444 == 0o444


def test_publishing_again_touches_nothing(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    digest = folder_digest(version)
    copy = publish(version, digest, tmp_path / "store")
    before = {each: each.stat().st_ino for each in (copy, *copy.iterdir())}
    assert publish(version, digest, tmp_path / "store") == copy
    assert {each: each.stat().st_ino for each in (copy, *copy.iterdir())} == before


def test_a_version_whose_bytes_are_not_those_of_the_lock_is_not_published(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    digest = folder_digest(version)
    (version / "adapter_config.json").write_text("{}")
    with pytest.raises(LibraryError) as caught:
        publish(version, digest, tmp_path / "store")
    assert [each.code for each in caught.value.diagnostics] == ["FC3002"]
    assert not (tmp_path / "store").exists()


def tamper(folder: Path) -> None:
    writable(folder)
    with (folder / "adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")


def remove_weights(folder: Path) -> None:
    writable(folder)
    (folder / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize("harm", [tamper, remove_weights])
def test_a_damaged_copy_is_never_loaded_from_again_and_a_fresh_path_takes_its_place(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    version, store = adapter(tmp_path / "a"), tmp_path / "store"
    digest = folder_digest(version)
    copy = publish(version, digest, store)
    harm(copy)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: publish(version, digest, store), range(16)))
    assert made == {store / f"{digest}-2"}
    assert folder_digest(store / f"{digest}-2") == digest
    assert folder_digest_or_fault(copy) != digest
    remove_tree(copy)
    assert publish(version, digest, store) == store / f"{digest}-2"
    harm(store / f"{digest}-2")
    assert publish(version, digest, store) == store / f"{digest}-3"


def folder_digest_or_fault(folder: Path) -> str:
    try:
        return folder_digest(folder)
    except LibraryError as error:
        return str(error)


def test_a_copy_that_was_damaged_by_the_ledger_is_good_and_not_loaded_from(tmp_path: Path) -> None:
    version, store = adapter(tmp_path / "a"), tmp_path / "store"
    digest = folder_digest(version)
    first = publish(version, digest, store)
    assert publish(version, digest, store, [str(first)]) == store / f"{digest}-2"
    for copy in (first, store / f"{digest}-2"):
        writable(copy)
        remove_tree(copy)  # as gc deletes what no server lists
    spoiled = [str(first), str(store / f"{digest}-9")]
    assert publish(version, digest, store, spoiled) == store / f"{digest}-10"
    assert publish(version, digest, store) == store / f"{digest}-10"


def locked(digest: str) -> Lock:
    entry = LockedAdapter(base="tiny", digest=digest, rank=8, bytes=1, modules=())
    return Lock(adapters={"acme-a-tiny-v1.0.0": entry})


@pytest.mark.parametrize("harm", [tamper, remove_weights, remove_tree])
def test_a_damaged_copy_is_made_good_again_in_its_place(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    library, store = tmp_path / "library", tmp_path / "store"
    version = adapter(library / "adapters" / "acme" / "a-v1.0.0")
    digest = folder_digest(version)
    copy = publish(version, digest, store)
    writable(copy)
    harm(copy)
    users = [loaded(digest, copy)]
    (done,) = repair_copies(damaged(users, store), users, locked(digest), library, store)
    assert (done.path, done.repaired) == (str(copy), True)
    assert folder_digest(copy) == digest
    for each in (copy, *copy.iterdir()):
        assert stat.S_IMODE(each.stat().st_mode) & 0o222 == 0
    assert sorted(each.name for each in store.iterdir()) == [source_name(digest), digest]


@pytest.mark.parametrize("harm", [tamper, remove_tree])
def test_a_damaged_copy_is_not_repaired_when_the_library_has_no_better(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    library, store = tmp_path / "library", tmp_path / "store"
    version = adapter(library / "adapters" / "acme" / "a-v1.0.0")
    digest = folder_digest(version)
    copy = publish(version, digest, store)
    tamper(copy)
    harm(version)
    users = [loaded(digest, copy)]
    (done,) = repair_copies(damaged(users, store), users, locked(digest), library, store)
    assert not done.repaired
    assert "cannot be repaired" in done.text
    assert "Restore the version in the library" in done.text
    with pytest.raises(LibraryError) as caught:
        publish(version, digest, store)
    (told,) = caught.value.diagnostics
    assert told.code == ("FC3002" if version.is_dir() else "FC3001")


def loaded(digest: str | None, path: Path) -> LoadedAdapter:
    return LoadedAdapter("acme-a-tiny-v1.0.0", "s", digest, str(path))


def test_the_copies_that_servers_load_from_are_hashed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    versions = [adapter(tmp_path / str(seed), seed=seed) for seed in range(4)]
    good, changed, gone, elsewhere = (folder_digest(each) for each in versions)
    for version, digest in zip(versions[:2], (good, changed), strict=True):
        publish(version, digest, store)
    tamper(store / changed)
    listed = [
        loaded(good, store / good),
        loaded(changed, Path("/on/the/server") / changed),
        loaded(gone, store / gone),
        loaded(elsewhere, Path("/on/the/server") / elsewhere),
        loaded(None, tmp_path),
    ]
    assert damaged(listed, store) == {
        f"/on/the/server/{changed}": "has other bytes than its digest",
        str(store / gone): "is gone",
    }


def test_the_bytes_are_hashed_where_the_server_reads_them(tmp_path: Path) -> None:
    store, mount = tmp_path / "store", tmp_path / "mount"
    versions = [adapter(tmp_path / str(seed), seed=seed) for seed in range(3)]
    linked, fresh, mounted = (folder_digest(version) for version in versions)
    store.mkdir()
    (store / linked).symlink_to(versions[1])
    publish(versions[1], fresh, store)
    publish(versions[2], mounted, store)
    (store / f"{fresh}-2").symlink_to(versions[0])
    publish(versions[2], mounted, mount)
    tamper(mount / mounted)
    listed = [
        loaded(linked, store / linked),
        loaded(fresh, store / f"{fresh}-2"),
        loaded(mounted, mount / mounted),
    ]
    wrong = "has other bytes than its digest"
    assert damaged(listed, store) == {
        str(store / linked): wrong,
        f"{store / fresh}-2": wrong,
        str(mount / mounted): f"at `{mount / mounted}` {wrong}",
    }


def test_a_link_in_the_place_of_a_copy_is_replaced_and_never_written_through(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    right, other = (adapter(tmp_path / str(seed), seed=seed) for seed in range(2))
    digest, victim = folder_digest(right), folder_digest(other)
    publish(other, victim, store)
    (store / digest).symlink_to(store / victim)
    copy = publish(right, digest, store)
    assert copy == store / f"{digest}-2"
    users, library = [loaded(digest, store / digest)], tmp_path / "library"
    (library / "adapters" / "acme").mkdir(parents=True)
    right.rename(library / "adapters" / "acme" / "a-v1.0.0")
    (done,) = repair_copies(damaged(users, store), users, locked(digest), library, store)
    assert done.repaired
    assert not (store / digest).is_symlink()
    for made in (copy, store / digest):
        assert (folder_digest(made), folder_digest(store / victim)) == (digest, victim)


def test_a_copy_outlives_its_version_in_the_library(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    digest = folder_digest(version)
    copy = publish(version, digest, tmp_path / "store")
    for each in version.iterdir():
        each.unlink()
    version.rmdir()
    assert publish(version, digest, tmp_path / "store") == copy


def test_many_publishers_at_once_make_one_copy_and_leave_nothing_behind(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    digest = folder_digest(version)
    store = tmp_path / "store"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: publish(version, digest, store), range(24)))
    assert set(made) == {store / digest}
    assert sorted(each.name for each in store.iterdir()) == [source_name(digest), digest]


def test_what_a_dead_publisher_left_is_no_copy(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    digest = folder_digest(version)
    half = tmp_path / "store" / ".incoming-dead"
    half.mkdir(parents=True)
    (half / "adapter_config.json").write_text("{")
    assert folder_digest(publish(version, digest, tmp_path / "store")) == digest


def test_a_store_that_cannot_be_written_is_told_to_people(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    (tmp_path / "store").write_text("a file")
    with pytest.raises(LibraryError) as caught:
        publish(version, folder_digest(version), tmp_path / "store")
    assert [each.code for each in caught.value.diagnostics] == ["FC3003"]
