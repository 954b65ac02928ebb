"""The links from the store to the library, for servers that find a copy damaged."""

import shutil
from pathlib import Path

from runtime.library.delete import remove_copy
from runtime.library.layout import folder_digest
from runtime.library.served_copies import publish
from runtime.state_folder import source_name
from tests.runtime.library.synthetic import adapter


def test_the_store_links_to_the_version_that_its_copies_are_of(tmp_path: Path) -> None:
    version = adapter(tmp_path / "a")
    store, digest = tmp_path / "store", folder_digest(version)
    copy = publish(version, digest, store)
    link = store / source_name(digest)
    assert link.readlink() == version
    moved = version.rename(tmp_path / "b")
    assert publish(moved, digest, store) == copy
    assert link.readlink() == moved
    shutil.copytree(copy, store / f"{digest}-2")
    remove_copy(store, digest)
    assert link.is_symlink()
    remove_copy(store, f"{digest}-2")
    assert list(store.iterdir()) == []
