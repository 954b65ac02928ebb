"""Bundles of the real library: no change of a bundle makes other bytes count."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.policies import SignedBytes
from runtime.library.layout import folder_digest
from runtime.library.signatures import check_bundle, fingerprint, read_bundle
from tests.drawn import drawn, examples
from tests.fleetctl.project_on_disk import QUICKSTART
from tests.runtime.library.signing.keys import make_key, sign

NONE = SignedBytes("")
FINGERPRINT = "836f31ca155ed2792974433943a5754f4ae2e1a89b40092684222f5e1e155c21"
"""By `openssl pkey -pubin -outform der | sha256sum`."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], str]:
    """Return a signed folder, the keys that count, and the digest of the version."""
    root = tmp_path_factory.mktemp("signed")
    folder = root / "version"
    shutil.copytree(QUICKSTART / "models/adapters/acme/support-v2.1.0", folder)
    for name in ("release", "stranger"):
        make_key(root / "keys", name)
    sign(folder, root / "keys/release.pem", "training.json", "evals")
    pem = (root / "keys/release.pub").read_bytes()
    return folder, {fingerprint(pem) or "": pem}, folder_digest(folder)


def test_a_bundle_names_its_key_and_the_digest_of_the_version(
    made: tuple[Path, dict[str, bytes], str],
) -> None:
    folder, keys, digest = made
    bundle = read_bundle(folder)
    assert bundle is not None
    assert check_bundle(bundle, keys) == SignedBytes(next(iter(keys)), digest)
    assert check_bundle(bundle, {}) == NONE


def test_what_is_signed_beside_the_served_files_does_not_count(
    made: tuple[Path, dict[str, bytes], str], tmp_path: Path
) -> None:
    folder, keys, digest = made
    key = folder.parent / "keys/release.pem"
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    (whole / "tokenizer.json").write_text("{}", "utf-8")
    sign(whole, key)
    assert check_bundle(read_bundle(whole) or b"", keys).digest == digest
    sign(whole, key, "adapter_config.json")
    assert check_bundle(read_bundle(whole) or b"", keys) == SignedBytes(next(iter(keys)))
    sign(whole, key, shards=True)
    assert check_bundle(read_bundle(whole) or b"", keys) == SignedBytes(next(iter(keys)))


def test_a_field_given_under_another_name_is_not_read(
    made: tuple[Path, dict[str, bytes], str],
) -> None:
    """What is checked is what is read: else a second envelope could name other bytes."""
    folder, keys, digest = made
    document = json.loads(read_bundle(folder) or b"")
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    for resource in statement["predicate"]["resources"]:
        resource["digest"] = "0" * 64
    forged = {
        **document["dsseEnvelope"],
        "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
    }
    right = document["dsseEnvelope"]
    cases: list[tuple[dict[str, Any], SignedBytes]] = [
        ({"dsse_envelope": forged}, SignedBytes(next(iter(keys)), digest)),
        ({"dsse_envelope": right, "dsseEnvelope": forged}, NONE),
        ({"dsseEnvelope": {**right, "signatures": right["signatures"] * 2}}, NONE),
        ({"verificationMaterial": {"x509CertificateChain": {"certificates": []}}}, NONE),
        ({"mediaType": "application/json"}, NONE),
    ]
    for changed, expected in cases:
        assert check_bundle(json.dumps(document | changed).encode(), keys) == expected


@drawn
@settings(max_examples=examples(150, 3000), deadline=None)
@given(at=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_no_changed_byte_of_a_bundle_makes_other_bytes_count(
    made: tuple[Path, dict[str, bytes], str], at: int, byte: int
) -> None:
    folder, keys, digest = made
    content = bytearray(read_bundle(folder) or b"")
    content[at % len(content)] = byte
    assert check_bundle(bytes(content), keys) in (NONE, SignedBytes(next(iter(keys)), digest))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 10_000, b'{"mediaType": 1}', b"null", b"0" * 5_000],
)
def test_what_is_no_bundle_names_no_key(
    made: tuple[Path, dict[str, bytes], str], content: bytes
) -> None:
    assert check_bundle(content, made[1]) == NONE


def test_a_fingerprint_is_that_of_the_key_in_der() -> None:
    pem = (
        b"-----BEGIN PUBLIC KEY-----\n"
        b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhxqGONYqBKAO6AJ4TONRJQnDv8Fj\n"
        b"sQHO644uhMjSVCAtJxT6Pv8CAcFCCS2mHmO2RJSIdyMuv/UsfizqsrMnMg==\n"
        b"-----END PUBLIC KEY-----\n"
    )
    assert fingerprint(pem) == FINGERPRINT
    assert fingerprint(b"# release\r\n" + pem.replace(b"\n", b"\r\n")) == FINGERPRINT
    body = b"MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj="
    rsa = b"-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----" % body
    for wrong in (b"", pem + pem, rsa, pem.replace(b"MFkw", b"M!kw"), pem[:-30]):
        assert fingerprint(wrong) is None
