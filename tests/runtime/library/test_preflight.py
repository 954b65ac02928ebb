"""The check of a version's bytes before every load, and its memory of finite values."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fleet.errors import LibraryError
from fleet.spec import AdapterFacts
from runtime.library.add import KnownBase
from runtime.library.inspect import inspect
from runtime.library.layout import WEIGHTS, folder_digest
from runtime.library.preflight import FiniteValues, Preflight
from runtime.library.served_copies import SPARE, publish
from tests.other_bytes import first_value
from tests.runtime.library import synthetic

NAME = "acme-support-tiny-v1.0.0"
TINY = KnownBase("tiny", "models/base/tiny", synthetic.BASE)


def preflight(folder: Path, base: KnownBase = TINY, **changes: object) -> Preflight:
    fields: dict[str, object] = {
        "bases": {"tiny": base}, "versions": {}, "finite": FiniteValues(folder), "served": {},
    }  # fmt: skip
    return Preflight(**{**fields, **changes})  # type: ignore[arg-type]


def refusal(check: Preflight, folder: Path) -> str:
    with pytest.raises(LibraryError) as caught:
        check.check(NAME, folder_digest(folder), folder)
    (only,) = caught.value.diagnostics
    assert only.code == "FC3030"
    assert NAME in only.detail
    return only.detail


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_is_no_number_is_refused_every_time(tmp_path: Path, value: float) -> None:
    folder, check = synthetic.adapter(tmp_path / "a"), preflight(tmp_path / "cache")
    first_value(folder / WEIGHTS, value)
    for _ in range(2):
        assert "FC3132" in refusal(check, folder)


def _wrong_base(folder: Path) -> None:
    half = synthetic.BASE.__class__(**{**asdict(synthetic.BASE), "hidden_size": 16})
    weights = synthetic.safetensors(synthetic.tensors(base=half))
    synthetic.write(folder, synthetic.config(), weights)


def _other_name(folder: Path) -> None:
    synthetic.adapter(folder, base_model_name_or_path="org/Other-7B")


def _unknown_module(folder: Path) -> None:
    content = synthetic.tensors()
    content["base_model.model.lm_head.lora_A.weight"] = np.ones((4, 4))
    synthetic.write(folder, synthetic.config(), synthetic.safetensors(content))


def _torn(folder: Path) -> None:
    weights = synthetic.adapter(folder) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_wrong_base, "FC3128"),
        (_other_name, "FC3110"),
        (_unknown_module, "FC3121"),
        (_torn, "FC3126"),
        (lambda folder: synthetic.adapter(folder, use_dora=True), "FC3105"),
    ],
)
def test_what_no_server_serves_rightly_is_refused(
    tmp_path: Path, make: Callable[[Path], object], code: str
) -> None:
    make(tmp_path / "a")
    assert code in refusal(preflight(tmp_path / "cache"), tmp_path / "a")


def test_a_base_may_be_known_by_another_name(tmp_path: Path) -> None:
    folder = synthetic.adapter(tmp_path / "a", base_model_name_or_path="org/Other-7B")
    known = KnownBase("tiny", "models/base/tiny", synthetic.BASE, ("org/Other-7B",))
    assert preflight(tmp_path / "c", known).check(NAME, folder_digest(folder), folder) == ()


def test_a_version_that_served_before_is_loaded_again_whatever_it_calls_its_base(
    tmp_path: Path,
) -> None:
    folder = synthetic.adapter(tmp_path / "a", base_model_name_or_path="org/Other-7B")
    digest = folder_digest(folder)
    check = preflight(tmp_path / "c", served={NAME: digest})
    assert [each.code for each in check.check(NAME, digest, folder)] == ["FC3110"]
    assert "FC3110" in refusal(preflight(tmp_path / "c", served={NAME: "0" * 64}), folder)


@pytest.mark.parametrize("lie", [{"rank": 8}, {"bytes": 1}, {"modules": ("q_proj",)}])
def test_facts_of_the_lock_that_are_not_those_of_the_bytes_are_refused(
    tmp_path: Path, lie: dict[str, object]
) -> None:
    folder = synthetic.adapter(tmp_path / "a")
    facts, _ = inspect(folder, synthetic.BASE, "tiny")
    said = AdapterFacts(**{**asdict(facts), **lie})
    assert "FC3031" in refusal(preflight(tmp_path / "c", versions={NAME: said}), folder)
    assert preflight(tmp_path / "c", versions={NAME: facts}).check(NAME, facts.digest, folder) == ()


def test_a_version_of_a_base_that_nothing_describes_is_not_loaded(tmp_path: Path) -> None:
    folder = synthetic.adapter(tmp_path / "a")
    with pytest.raises(LibraryError) as caught:
        preflight(tmp_path / "c", bases={}).check(NAME, folder_digest(folder), folder)
    assert caught.value.diagnostics[0].code == "FC3032"


def test_the_values_of_a_digest_are_read_once(tmp_path: Path) -> None:
    folder, cache = synthetic.adapter(tmp_path / "a"), FiniteValues(tmp_path / "c")
    digest = folder_digest(folder)
    assert cache.silent(digest) is None
    preflight(tmp_path / "c").check(NAME, digest, folder)
    assert cache.silent(digest) is False
    # the same digest stands for the same values, so these are not looked at again
    first_value(folder / WEIGHTS, nan)
    assert preflight(tmp_path / "c").check(NAME, digest, folder) == ()
    assert "FC3132" in refusal(preflight(tmp_path / "c"), folder)


def test_an_adapter_that_does_nothing_is_loaded_only_where_it_served_before(tmp_path: Path) -> None:
    silent = {name: values * (".lora_A." in name) for name, values in synthetic.tensors().items()}
    folder = synthetic.write(tmp_path / "a", synthetic.config(), synthetic.safetensors(silent))
    digest = folder_digest(folder)
    for _ in range(2):  # the second time by what is remembered
        assert "FC3133" in refusal(preflight(tmp_path / "c"), folder)
        known = replace(preflight(tmp_path / "c"), served={NAME: digest})
        assert [found.code for found in known.check(NAME, digest, folder)] == ["FC3133"]
    assert FiniteValues(tmp_path / "c").silent(digest) is True


def _copied(cache: Path, digest: str) -> None:
    good = synthetic.adapter(cache.parent / "good", seed=1)
    preflight(cache).check(NAME, folder_digest(good), good)
    shutil.copy(cache / folder_digest(good), cache / digest)


def _other_key(cache: Path, digest: str) -> None:
    FiniteValues(cache.parent / "elsewhere").add(digest, silent=False)
    shutil.copy(cache.parent / "elsewhere" / digest, cache / digest)


def _empty(cache: Path, digest: str) -> None:
    (cache / digest).write_bytes(b"")


def _half(cache: Path, digest: str) -> None:
    FiniteValues(cache).add(digest, silent=False)
    entry = (cache / digest).read_bytes()
    (cache / digest).write_bytes(entry[: len(entry) // 2])


def _flipped(cache: Path, digest: str) -> None:
    FiniteValues(cache).add(digest, silent=True)
    entry = (cache / digest).read_bytes()
    (cache / digest).write_bytes(entry.replace(b" 1 ", b" 0 "))


@pytest.mark.parametrize("forge", [_copied, _other_key, _empty, _half, _flipped])
def test_a_torn_or_forged_entry_is_no_entry(
    tmp_path: Path, forge: Callable[[Path, str], None]
) -> None:
    cache = tmp_path / "cache"
    FiniteValues(cache).add("0" * 64, silent=False)  # makes the key
    folder = synthetic.adapter(tmp_path / "bad")
    first_value(folder / WEIGHTS, nan)
    forge(cache, folder_digest(folder))
    assert FiniteValues(cache).silent(folder_digest(folder)) is None
    assert "FC3132" in refusal(preflight(cache), folder)


def test_without_a_place_to_remember_every_check_reads_the_values(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file where the folder would be")
    folder = synthetic.adapter(tmp_path / "a")
    for _ in range(2):
        assert preflight(tmp_path / "c").check(NAME, folder_digest(folder), folder) == ()
    first_value(folder / WEIGHTS, nan)
    assert "FC3132" in refusal(preflight(tmp_path / "c"), folder)


def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = synthetic.adapter(tmp_path / "a"), tmp_path / "state" / "store"
    digest = folder_digest(folder)
    free = sum(file.stat().st_size for file in folder.iterdir()) + SPARE - 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(LibraryError) as caught:
        publish(folder, digest, store)
    assert caught.value.diagnostics[0].code == "FC3033"
    assert not store.exists()
    free += 1
    assert publish(folder, digest, store) == store / digest
    free = 0
    assert publish(folder, digest, store) == store / digest  # it is there
