"""The usage log over the admin side, so that whoever judges a rollout need not be on this machine.

A reader keeps a copy of each file and asks for what lies beyond its end; a file is known by its
first row, which stays the same when the file is put aside.
"""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from runtime.gateway.usagesegments import Segment, segments_of

USAGE: Final = "/-/usage"
PART: Final = 2**20
"""Most bytes of rows in one answer: sending them keeps nobody waiting."""
_ROWS: Final = "application/x-ndjson"


def usage_routes(folder: Path) -> list[web.RouteDef]:
    """Return the paths that show the usage logs in a gateway's folder.

    `GET /-/usage` lists the files with their sizes in bytes and the gateway's clock;
    `GET /-/usage/KEY?from=BYTES` gives whole rows from there on, at most 1 MiB of them.
    """

    async def listed(_: web.Request) -> web.Response:
        found = await asyncio.to_thread(lambda: [_shown(each) for each in segments_of(folder)])
        clock = datetime.now(UTC).isoformat(timespec="milliseconds")
        return web.json_response({"time": clock, "files": found})

    async def part(request: web.Request) -> web.Response:
        try:
            start = int(request.query.get("from", "0"))
        except ValueError:
            start = -1
        if start < 0:
            return web.json_response(
                {"error": {"message": "`from` is a number of bytes, 0 or more."}},
                status=HTTPStatus.BAD_REQUEST,
            )
        rows = await asyncio.to_thread(_part, folder, request.match_info["key"], start)
        if rows is None:
            return web.json_response(
                {"error": {"message": "There is no such usage log."}}, status=HTTPStatus.NOT_FOUND
            )
        return web.Response(body=rows, content_type=_ROWS)

    return [web.get(USAGE, listed), web.get(USAGE + "/{key}", part)]


def _shown(each: Segment) -> dict[str, Any]:
    written = datetime.fromtimestamp(each.path.stat().st_mtime, UTC)
    return {"key": each.key, "size": each.end, "written": written.isoformat()}


def _part(folder: Path, key: str, start: int) -> bytes | None:
    """Return whole rows of a file from an offset on; None: there is no such file."""
    for each in segments_of(folder):
        if each.key == key:
            return each.part(start, PART)
    return None
