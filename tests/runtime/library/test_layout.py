"""The copies of a digest are found at once, in a store of any size."""

import os
from pathlib import Path

from runtime.library.layout import copies_of


def test_copies_are_listed_as_they_are_now_however_old_the_last_listing_is(tmp_path: Path) -> None:
    digest, other = "a" * 64, "b" * 64
    store = tmp_path / "store"
    assert copies_of(digest, store) == ()
    first, fresh = store / digest, store / f"{digest}-2"
    for folder in (first, store / other, store / f".source-{digest}", store / f"{digest}-x"):
        folder.mkdir(parents=True)
    assert copies_of(digest, store) == (first,)
    os.utime(store, (1, 1))  # long ago, so that a listing serves again
    assert copies_of(digest, store) == copies_of(digest, store) == (first,)
    fresh.mkdir()
    assert copies_of(digest, store) == (first, fresh)
    os.utime(store, (2, 2))
    assert copies_of(digest, store) == (first, fresh)
    first.rmdir()
    assert copies_of(digest, store) == (fresh,)
    assert copies_of(other, store) == (store / other,)
