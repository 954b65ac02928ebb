"""The signature of a version as `adapter show` shows it, with the real library of OpenSSF."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.runtime.library.signing.conftest import FOLDER, NAME, SigningProject
from tests.runtime.library.signing.keys import sign


def fingerprint(signing: SigningProject, name: str) -> str:
    """Return the SHA-256 of a public key in DER, by another library than the product uses."""
    key = serialization.load_pem_public_key((signing.keys / f"{name}.pub").read_bytes())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def shown(signing: SigningProject) -> tuple[str, dict[str, object]]:
    """Return the line of the signature, and the field of the document."""
    text = signing.call("adapter", "show", NAME)
    assert text.returncode == 0, text.stderr
    (line,) = (line for line in text.stdout.splitlines() if line.startswith("  signature  "))
    document = json.loads(signing.call("adapter", "show", NAME, "--format", "json").stdout)
    return line.removeprefix("  signature  "), document["signature"]


def change_a_byte(folder: Path) -> None:
    config = folder / "adapter_config.json"
    config.chmod(0o644)
    config.write_bytes(config.read_bytes() + b" ")


def edit(signing: SigningProject, old: str, new: str) -> None:
    file = signing.root / "fleet.yaml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_a_signature_that_counts_names_the_key(signing: SigningProject) -> None:
    assert signing.add(key="release").returncode == 0
    key = fingerprint(signing, "release")
    assert shown(signing) == (
        f"by `release`, key {key[:12]}",
        {"state": "verified", "key": key, "signed_by": "release", "until": None},
    )


def test_the_last_day_of_an_ended_key_is_shown(signing: SigningProject) -> None:
    assert signing.add(key="former").returncode == 0
    key = fingerprint(signing, "former")
    assert shown(signing) == (
        f"by `former`, key {key[:12]}, whose last day was 2026-01-31",
        {"state": "expired", "key": key, "signed_by": "former", "until": "2026-01-31"},
    )


def test_a_signature_of_other_bytes_is_shown_as_such(signing: SigningProject) -> None:
    sign(signing.folder, signing.keys / "release.pem")
    change_a_byte(signing.folder)
    assert signing.add().returncode == 0
    key = fingerprint(signing, "release")
    assert shown(signing) == (
        f"by `release`, key {key[:12]}, not for these bytes",
        {"state": "changed", "key": key, "signed_by": "release", "until": None},
    )


def test_a_key_that_was_never_declared_has_no_name(signing: SigningProject) -> None:
    assert signing.add(key="stranger").returncode == 0
    assert shown(signing) == (
        "by no key that was declared when the version was added, or damaged",
        {"state": "unknown_key", "key": None, "signed_by": None, "until": None},
    )


def test_a_key_that_is_no_longer_declared_is_shown_by_its_digest(signing: SigningProject) -> None:
    assert signing.add(key="release").returncode == 0
    edit(signing, "  release: {file: keys/release.pub}\n", "")
    key = fingerprint(signing, "release")
    assert shown(signing) == (
        f"by key {key[:12]}, which is not declared",
        {"state": "unknown_key", "key": key, "signed_by": None, "until": None},
    )


def test_a_version_without_a_signature_has_none(signing: SigningProject) -> None:
    assert signing.add().returncode == 0
    none = {"state": "unsigned", "key": None, "signed_by": None, "until": None}
    assert shown(signing) == ("none", none)


@pytest.mark.parametrize("state", ["not checked", "not here"])
def test_a_signature_that_the_lock_does_not_tell_is_unknown(
    signing: SigningProject, state: str
) -> None:
    if state == "not checked":
        sign(signing.folder, signing.keys / "release.pem")
        declared = (signing.root / "fleet.yaml").read_text("utf-8").partition("\nsignatures:")[2]
        edit(signing, "\nsignatures:" + declared, "\n")
    assert signing.add().returncode == 0
    words = "unknown: `model.sig` is there and was not checked"
    if state == "not here":
        shutil.rmtree(signing.root / FOLDER)
        words = "unknown: none in the lock, and the version is not in the library here"
    unknown = {"state": "unknown", "key": None, "signed_by": None, "until": None}
    assert shown(signing) == (words, unknown)


def test_without_readable_declarations_the_name_of_the_key_is_unknown(
    signing: SigningProject,
) -> None:
    assert signing.add(key="release").returncode == 0
    (signing.root / "fleet.yaml").write_text("fleet: [\n", "utf-8")
    key = fingerprint(signing, "release")
    assert shown(signing) == (
        f"unknown: by key {key[:12]}, and the declared keys cannot be read",
        {"state": "unknown", "key": key, "signed_by": None, "until": None},
    )
