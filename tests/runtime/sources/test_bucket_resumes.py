"""What arrives later of an object of a bucket is of the content that was listed."""

import asyncio
import os
from pathlib import Path

import pytest

from fleet.errors import LibraryError
from runtime.library.layout import SERVED_FILES
from runtime.sources.bucket import Bucket
from runtime.sources.download import bring, listed
from runtime.sources.reference import SourceReference
from tests.runtime.sources.stand_ins import BucketStandIn, serving

REFERENCE = SourceReference("s3", "models", "acme/support")
WEIGHTS, MIB = SERVED_FILES[1], 1 << 20


def test_an_object_that_changes_before_the_rest_of_it_arrives_is_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, here = tmp_path / "held", tmp_path / "here"
    held.mkdir()
    here.mkdir()
    (held / SERVED_FILES[0]).write_bytes(b"{}")
    (held / WEIGHTS).write_bytes(os.urandom(3 * MIB))
    before = (held / WEIGHTS).read_bytes()

    async def brought() -> None:
        source = Bucket(REFERENCE)
        listing = await listed(source, str(REFERENCE))
        (here / f"{WEIGHTS}.part").write_bytes(before[:MIB])
        (held / WEIGHTS).write_bytes(os.urandom(3 * MIB))
        with pytest.raises(LibraryError, match="changes while it is read") as raised:
            await bring(source, listing, here, lambda _done, _total: None)
        assert raised.value.diagnostics[0].code == "FC3053"
        assert not (here / WEIGHTS).exists()
        (held / WEIGHTS).write_bytes(before)
        await bring(source, listing, here, lambda _done, _total: None)
        await source.close()

    with serving(BucketStandIn(held)) as stand_in:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "default",
            "AWS_ENDPOINT_URL": stand_in.url, "AWS_ALLOW_HTTP": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        asyncio.run(brought())
        assert (here / WEIGHTS).read_bytes() == before
        assert stand_in.sent[WEIGHTS] == 2 * MIB
