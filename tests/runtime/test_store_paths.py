"""Which digest a path that a server lists means, on a file system that the server shares."""

from pathlib import Path

import pytest

from runtime.state_folder import StoreView, digest_of_copy

DIGEST, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for digest in (DIGEST, OTHER):
        (tmp_path / "project" / "store" / digest).mkdir(parents=True)
    (tmp_path / "elsewhere" / DIGEST).mkdir(parents=True)
    (tmp_path / "linked-project").symlink_to(tmp_path / "project")
    (tmp_path / "link").symlink_to(tmp_path / "project" / "store" / OTHER)
    (tmp_path / "project" / "store" / f"{DIGEST}-2").symlink_to(tmp_path / "elsewhere" / DIGEST)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / DIGEST).symlink_to(tmp_path / "project" / "store" / OTHER)
    return tmp_path / "project" / "store"


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (f"project/store/{DIGEST}", DIGEST),
        (f"project/store/{DIGEST}/", DIGEST),
        (f"project/./store/../store/{DIGEST}", DIGEST),
        (f"linked-project/store/{DIGEST}", DIGEST),
        ("link", OTHER),
        (f"wrong/{DIGEST}", OTHER),  # the bytes behind the link are the ones that are read
        (f"project/store/{DIGEST}-2", DIGEST),  # a link below the store: `drift` hashes its bytes
        (f"project/store/{'ef' * 32}", "ef" * 32),  # gone: damage, and no other bytes
        (f"elsewhere/{DIGEST}", None),
        (f"project/store/{DIGEST}/inside", None),
        (f"project/{DIGEST}", None),
        ("project/store", None),
        ("project/store/adapter", None),
    ],
)
def test_the_digest_of_a_path(store: Path, tmp_path: Path, path: str, digest: str | None) -> None:
    assert StoreView(store).digest(f"{tmp_path}/{path}") == digest


def test_a_path_that_is_empty_or_relative_tells_nothing(store: Path) -> None:
    assert [StoreView(store).digest(path) for path in ("", "/", f"store/{DIGEST}")] == [None] * 3


def test_a_store_that_is_reached_through_a_link_knows_its_real_paths(
    store: Path, tmp_path: Path
) -> None:
    linked = StoreView(tmp_path / "linked-project" / "store")
    assert linked.digest(str(store / DIGEST)) == DIGEST


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (DIGEST, DIGEST), (f"{DIGEST}-2", DIGEST), (f"{DIGEST}-10", DIGEST),
        (f"{DIGEST}-1", None), (f"{DIGEST}-02", None), (f"{DIGEST}-", None), (DIGEST[1:], None),
        (f".{DIGEST}", None), (DIGEST.upper(), None), (f"{DIGEST}\n", None),
    ],
)  # fmt: skip
def test_the_names_of_copies(name: str, digest: str | None) -> None:
    assert digest_of_copy(name) == digest


def test_a_mapping_that_leaves_out_the_store_tells_nothing(store: Path) -> None:
    assert StoreView(store, (("/other", "/there"),)).digest(f"/there/{DIGEST}") is None
