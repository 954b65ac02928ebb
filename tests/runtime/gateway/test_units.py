"""Users counted by their usage rows, which do not name the users."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import Sticky, TrafficPolicy
from runtime.gateway.admin.state_dir import SECRET_FILE
from runtime.gateway.body.endpoints import PATHS
from runtime.gateway.table.routing import alias_key, digest, unit
from runtime.usage.row import COUNT_TOKENS
from tests.runtime.gateway.sockets import asked, on, told
from tests.runtime.gateway.stage import NEW, OLD, Stage, alias, chat
from tests.runtime.usage.sums import summed


def test_a_unit_is_of_one_user_one_alias_and_one_secret() -> None:
    keys = [alias_key(name) for name in ("acme-support", "acme-dates")]
    secrets = (b"", b"one", b"x" * 64)
    found = [unit(*each) for each in itertools.product(keys, (b"ann", b"bo"), secrets)]
    assert len(set(found)) == len(keys) * 2 * len(secrets)
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in found)
    assert unit(keys[0], b"ann", b"one") == unit(keys[0], b"ann", b"one")


BY_USER, BY_SESSION = TrafficPolicy(sticky=Sticky.USER), TrafficPolicy()
ASKED: list[tuple[TrafficPolicy, dict[str, Any], str, str]] = [
    # policy, fields of the body, session header, who it is for the split
    (BY_SESSION, {"user": "ann"}, "s-1", "s-1"),
    (BY_SESSION, {"user": "ann", "session_id": "s-2"}, "", "s-2"),
    (BY_SESSION, {"user": "ann"}, "", "ann"),
    (BY_SESSION, {}, "", ""),
    (BY_SESSION, {"user": ""}, "", ""),
    (BY_USER, {"user": "ann"}, "s-1", "ann"),
    (BY_USER, {"metadata": {"user_id": "ann"}}, "s-1", "ann"),
    (BY_USER, {}, "s-1", ""),
    (BY_USER, {"user": "Zoë \ud83d\ude00"}, "", "Zoë \U0001f600"),
    (TrafficPolicy(sticky=Sticky.KEY), {"user": "ann"}, "s-1", ""),
    (TrafficPolicy(sticky=Sticky.REQUEST), {"user": "ann"}, "s-1", ""),
]


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("path", sorted(PATHS - {COUNT_TOKENS}))
def test_a_row_says_whom_the_split_keeps_on_one_version_and_not_who_that_is(
    tmp_path: Path, path: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(told("hello"))

    async def scenario(ours: Stage) -> None:
        given, _ = await ours.gateways.read_table()
        for revision, (policy, fields, session, _) in enumerate(ASKED, start=3):
            entry = alias("acme", (NEW, 50, ("s1",)), (OLD, 50, ("s1",)), policy=policy)
            update = {"aliases": {"acme-support": entry}, "revision": revision}
            await ours.gateways.publish(given.model_copy(update=update))
            headers = {"X-Session-Id": session} if session else {}
            body = json.dumps(chat(**fields)).encode()
            assert (await ours.send(body, headers=headers, path=path)).status == 200
        proof = digest((ours.state / SECRET_FILE).read_text("utf-8").strip())
        of = alias_key("acme-support")  # whatever the salt of the rollout
        units = [unit(of, who.encode(), proof) if who else None for *_, who in ASKED]
        assert [row["unit"] for row in ours.rows()] == units
        log = (ours.state / "gateways/main/usage.jsonl").read_text("utf-8")
        assert not any(name in log for name in ("ann", "s-1", "s-2", "Zo"))
        users = sum(each["users"] for each in summed(ours.state))
        # Users are counted about: two of four share a register once in 700 draws of the secret.
        assert abs(users - len({each for each in units if each})) <= 1

    on(tmp_path, script, scenario)
