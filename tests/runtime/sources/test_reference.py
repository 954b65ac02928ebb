"""References of sources, taken apart and written again."""

import pytest

from fleet.errors import LibraryError
from runtime.sources.http import base_url
from runtime.sources.reference import SourceReference
from runtime.sources.registry import FILE_PATH, TITLE, layer_file

DIGEST = f"sha256:{'ab' * 32}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "oci://registry.example/acme/support:2.1.0",
            ("oci", "registry.example", "acme/support", "2.1.0", ""),
        ),
        (f"oci://r.example:5000/s@{DIGEST}", ("oci", "r.example:5000", "s", "", DIGEST)),
        ("s3://models/acme/support/", ("s3", "models", "acme/support", "", "")),
        ("hf://acme/support", ("hf", "acme/support", "", "", "")),
        (
            f"hf://acme/support@{COMMIT}/sub/folder",
            ("hf", "acme/support", "sub/folder", COMMIT, COMMIT),
        ),
        ("https://models.example/a/b/", ("https", "models.example", "a/b", "", "")),
    ],
)
def test_a_reference_reads_back(text: str, parts: tuple[str, ...]) -> None:
    reference = SourceReference.parse(text)
    assert reference is not None
    found = (reference.kind, reference.place, reference.path, reference.version, reference.digest)
    assert found == parts
    assert str(reference) == text
    assert (
        SourceReference.parse(str(reference.pinned(DIGEST if parts[0] == "oci" else COMMIT)))
        is not None
    )


def test_a_path_is_no_reference() -> None:
    assert SourceReference.parse("out/checkpoint-600") is None


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/path", "oci://registry.example/acme/support", "oci://registry.example/Acme:1",
        "oci://registry.example/a:1@sha256:12", "https://user:secret@host/a/", "s3://bucket/../x",
        "https://host/a/../b/", "https://host/a?token=secret", "hf://acme",
        f"https://{'a' * 3000}/",
        "https://tok@host/a/", "oci://u:p@registry.example/a:1",
    ],
)  # fmt: skip
def test_other_forms_are_refused_and_no_secret_is_shown(text: str) -> None:
    with pytest.raises(LibraryError) as refused:
        SourceReference.parse(text)
    assert refused.value.diagnostics[0].code == "FC3050"
    assert "secret" not in str(refused.value)


PACKED = "application/vnd.cncf.model.weight.v1.tar+gzip"


@pytest.mark.parametrize(
    ("name", "digest", "media"),
    [
        ("../adapter_config.json", DIGEST, ""),
        ("/etc/passwd", DIGEST, ""),
        ("adapter_config.json", "sha256:12", ""),
        ("adapter_model.safetensors", DIGEST, PACKED),
    ],
)
def test_a_layer_that_leads_elsewhere_or_is_packed_is_refused(
    name: str, digest: str, media: str
) -> None:
    for annotation in (FILE_PATH, TITLE):
        layer = {"digest": digest, "size": 1, "mediaType": media, "annotations": {annotation: name}}
        with pytest.raises(LibraryError) as refused:
            layer_file(layer, "oci://registry.example/a:1")
        assert refused.value.diagnostics[0].code == "FC3054"


@pytest.mark.parametrize("host", ["127.0.0.1.example", "localhost.example", "r.example:5000"])
def test_another_machine_is_asked_by_tls(host: str) -> None:
    assert base_url(host) == f"https://{host}"


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost", "[::1]:5000"])
def test_this_machine_may_be_asked_in_clear(host: str) -> None:
    assert base_url(host) == f"http://{host}"
