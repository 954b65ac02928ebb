"""Answer requests: who asks, the facts of a page, and their form: HTML, JSON, CSV."""

import asyncio
import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from fleet.codec import plain
from fleet.errors import FleetError
from fleet.usage import OfClient, Operator, Scope
from runtime.operations.change.deploy import (
    branch_change,
    other_versions,
    plan_change,
    version_change,
)
from runtime.web.access import (
    SESSION_S,
    Grant,
    Guard,
    TokenSigner,
    TrustedProxy,
    allowed_hosts,
    not_found,
    subject_of,
)
from runtime.web.facts import Documents
from runtime.web.scraped import ScrapedPages
from runtime.web.snapshot import FleetSnapshot, SnapshotReader
from runtime.web.sources import ARRANGE, CLIENT_PATHS, OWN, PATHS, VIEW, FactSource
from runtime.web.writes import ACTIONS, ROLLBACK, WriteOutcome, confirm, write
from runtime.workspace import Workspace

RenderPage: TypeAlias = Callable[[str, Mapping[str, Any]], str]
"""Makes HTML from the name of a page and its values."""
OPERATOR_COOKIE: Final = "fleetctl_operator"
CLIENT_COOKIE: Final = "fleetctl_client"
STATIC: Final = Path(__file__).with_name("static")
MOST_FORM: Final = 16 * 1024
"""Upper bound of a form. Bytes."""
FORMS: Final = (".json", ".csv", "")
ROWS: Final = 200
"""Upper bound of rows of a table in HTML; JSON and CSV have all."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The pages of a project; `application` is the ASGI application."""

    workspace: Workspace
    reader: SnapshotReader
    source: FactSource
    render: RenderPage
    stylesheet: str
    signer: TokenSigner
    listen: str
    url: str = ""
    """Public URL behind a proxy; empty: none."""
    read_only: bool = False
    proxy: TrustedProxy | None = None
    """The proxy whose header names operators; None: links and tokens alone open pages."""
    _used: set[str] = field(default_factory=set)
    """Links of operators that have opened a session."""

    def application(self) -> Starlette:
        """Return the ASGI application; `read_only` leaves the routes of writes out."""
        routes = [
            Route("/enter", self._enter),
            Route("/static/style.css", self._style),
            Route("/static/htmx.min.js", self._file),
            Route("/static/icon.svg", self._file),
            *ScrapedPages(self.workspace, self.source.bills, self._for_operator).routes(),
        ]
        if not self.read_only:
            routes += [
                Route("/do/{action}/{name}", self._confirm),
                Route("/do/{action}/{name}", self._write, methods=["POST"]),
                Route("/deploy/{name}.patch", self._deploy),
                Route("/deploy/{name}", self._deploy, methods=["GET", "POST"]),
            ]
        for form in FORMS:
            routes += [
                Route(path + form, self._page(page, form), name=f"{page}{form}")
                for page, (path, _) in {**PATHS, **CLIENT_PATHS}.items()
            ]
            routes += [
                Route(path.replace(OWN, VIEW) + form, self._page(page, form, by_operator=True))
                for page, (path, _) in CLIENT_PATHS.items()
            ]
        hosts = allowed_hosts(self.listen, self.url)
        guard = Middleware(Guard, hosts=hosts, emit=self.workspace.emit)
        application = Starlette(
            routes=routes,
            middleware=[guard],
            exception_handlers={404: not_found, 405: not_found},
            lifespan=self._lifespan,
        )
        application.router.redirect_slashes = False
        return application

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work.run()) for work in (self.reader, self.source.bills)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _page(self, page: str, form: str, *, by_operator: bool = False) -> Callable[[Request], Any]:
        """Return the endpoint of a page; `by_operator`: a client's page for operators."""

        async def answer(request: Request) -> Response:
            seen = await self.reader.latest()
            wanted: Scope = Operator()
            if page in CLIENT_PATHS:
                wanted = OfClient(request.path_params["client"])
            asker = Operator() if by_operator else wanted
            if self._grant(request, seen, asker, form) is None:
                return not_found()
            asked = {**request.query_params, **request.path_params}
            facts = await asyncio.to_thread(self.source.facts, page, seen, wanted, asked)
            if facts is None:
                return not_found()
            return self._answer(request, page, form, plain(facts))

        return answer

    def _answer(self, request: Request, page: str, form: str, facts: Any) -> Response:
        table = {**PATHS, **CLIENT_PATHS}[page][1]
        asked = {name: text for name, text in request.query_params.items() if name in ARRANGE}
        facts = {**facts, table: arranged(facts[table], asked)}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        if form == ".json":
            return Response(text, media_type="application/json")
        if form == ".csv":
            return Response(csv_of(facts[table]), media_type="text/csv; charset=utf-8")
        made = hashlib.sha256(text.encode()).hexdigest()[:16]
        if request.query_params.get("after") == made:
            return Response(status_code=204)
        rows, wanted = facts[table], request.query_params.get("page", "")
        pages = max(-(-len(rows) // ROWS), 1)
        number = min(int(wanted), pages) if wanted.isdecimal() and int(wanted) else 1
        facts = {**facts, table: rows[(number - 1) * ROWS : number * ROWS]}
        shown: dict[str, Any] = {"pages": pages, "number": number, "query": urlencode(asked)}
        shown["asked"] = {"q": "", "sort": "", **asked}
        return self._html(page, request, facts=facts, made=made, **shown)

    def _html(self, page: str, request: Request, status: int = 200, **values: Any) -> Response:
        path = request.url.path
        shown = {
            "here": path,
            "home": "/".join(path.split("/")[: 4 if path.startswith("/clients/") else 3]),
            "read_only": self.read_only,
            "actions": ACTIONS,
            **values,
        }
        return Response(self.render(page, shown), status, media_type="text/html; charset=utf-8")

    def _grant(
        self, request: Request, seen: FleetSnapshot, wanted: Scope, form: str
    ) -> Grant | None:
        """Return the grant of a request for a scope; None: it has none."""
        now = self.workspace.now()
        cookie = CLIENT_COOKIE if isinstance(wanted, OfClient) else OPERATOR_COOKIE
        found = self.signer.read("session", request.cookies.get(cookie, ""), now, seen.revoked)
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        if form and kind.lower() == "bearer":
            found = self.signer.read("token", bearer, now, seen.revoked)
        if not found and self.proxy and isinstance(wanted, Operator):
            person = self.proxy.person_of(request)
            found = Grant(wanted, person, now) if person else None
        return found if found and found.scope == wanted else None

    async def _for_operator(self, request: Request) -> FleetSnapshot | None:
        seen = await self.reader.latest()
        return seen if self._grant(request, seen, Operator(), "metrics") else None

    async def _enter(self, request: Request) -> Response:
        """Open a session for a link, and send the browser on to an address without the token."""
        seen, now = await self.reader.latest(), self.workspace.now()
        link = self.signer.read("link", request.query_params.get("t", ""), now, seen.revoked)
        if link is None or link.nonce in self._used:
            return not_found()
        client, until = subject_of(link.scope), link.until
        if not client:
            self._used.add(link.nonce)
            until = now + timedelta(seconds=SESSION_S)
        session = self.signer.make("session", Grant(link.scope, link.by, until, link.generation))
        path = f"/c/{client}" if client else "/"
        response = RedirectResponse(path, 303)
        response.set_cookie(
            CLIENT_COOKIE if client else OPERATOR_COOKIE,
            session,
            max_age=int((until - now).total_seconds()),
            path=path,
            secure=self.url.startswith("https:"),
            httponly=True,
            samesite="lax",
        )
        return response

    async def _style(self, _: Request) -> Response:
        return Response(self.stylesheet, media_type="text/css; charset=utf-8")

    async def _file(self, request: Request) -> Response:
        return FileResponse(STATIC / request.url.path.rpartition("/")[2])

    async def _confirm(self, request: Request) -> Response:
        return await self._write_page(request, None)

    async def _write(self, request: Request) -> Response:
        given = await _form(request)
        return not_found() if given is None else await self._write_page(request, given)

    async def _deploy(self, request: Request) -> Response:
        """Show the change that declares another version; by POST, commit the change on a branch."""
        alias, seen = request.path_params["name"], await self.reader.latest()
        grant, given = self._grant(request, seen, Operator(), ""), await _form(request)
        if grant is None or given is None or alias not in seen.fleet.adapters:
            return not_found()
        posts = request.method == "POST"
        version = (given if posts else request.query_params).get("version", "")
        values = {"alias": alias, "label": "Deploy"}
        by = grant.by if posts else ""
        asked = self.workspace, seen, self.source.documents, alias, version, by
        try:
            facts = await asyncio.to_thread(deploy_page, *asked)
        except FleetError as error:
            return self._refused(request, error, **values)
        if isinstance(facts, WriteOutcome):
            return self._html("written", request, facts=asdict(facts), **values)
        if facts.version and request.url.path.endswith(".patch"):
            name = f'attachment; filename="{alias}-{version}.patch"'
            headers = {"content-disposition": name}
            return Response(facts.patch, media_type="text/x-patch; charset=utf-8", headers=headers)
        return self._html("deploy", request, facts=asdict(facts), **values)

    def _refused(self, request: Request, error: FleetError, **values: Any) -> Response:
        problems = [asdict(problem) for problem in error.diagnostics]
        return self._html("refused", request, 409, facts=problems, **values)

    async def _write_page(self, request: Request, given: Mapping[str, str] | None) -> Response:
        """Show the consequences of a write, or carry the write out where `given` confirms."""
        action, alias = request.path_params["action"], request.path_params["name"]
        seen = await self.reader.latest()
        grant = self._grant(request, seen, Operator(), "")
        if grant is None or action not in ACTIONS or alias not in seen.routes:
            return not_found()
        values: dict[str, Any] = {"alias": alias, "label": ACTIONS[action], "action": action}
        try:
            if given is not None and (action != ROLLBACK or given.get("typed") == alias):
                to, reason = given.get("to", ""), given.get("reason", "")
                said = (self.workspace, grant.by, action, alias, to, reason)
                written = await asyncio.to_thread(write, *said)
                await self.reader.refresh()
                return self._html("written", request, facts=asdict(written), **values)
            asked = await asyncio.to_thread(confirm, self.workspace, action, alias)
        except FleetError as error:
            return self._refused(request, error, **values)
        wrong = given is not None
        return self._html("confirm", request, facts=asdict(asked), wrong=wrong, **values)


async def _form(request: Request) -> Mapping[str, str] | None:
    """Return the fields of a form; None: it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM:
            return None
    given = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {name: texts[0] for name, texts in given.items()}


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def arranged(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, str]) -> list[Any]:
    """Return the rows that hold the text `q`, sorted by the column `sort`, last first with `desc`.

    Without `sort` the order stays. Rows without a value come last.
    """
    text, column = asked.get("q", "").lower(), asked.get("sort", "")
    found = [*rows]
    if text:
        found = [row for row in rows if text in json.dumps(row, ensure_ascii=False).lower()]
    if not column:
        return found
    known = [row for row in found if row.get(column) is not None]
    rest = [row for row in found if row.get(column) is None]
    known.sort(key=lambda row: _order(row[column]), reverse="desc" in asked)
    return known + rest


def _order(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0, json.dumps(value))


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV: lists as JSON, and no cell that a spreadsheet takes for a formula."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return f"'{value}" if value.startswith(_FORMULA) else value
        case _:
            return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class DeployPage:
    """The page `/deploy/ALIAS`."""

    alias: str
    declared: str
    versions: tuple[str, ...]
    """Other versions of the library, the newest first."""
    version: str = ""
    """The version chosen; empty: none yet, and neither patch nor plan."""
    file: str = ""
    patch: str = ""
    plan: str = ""


def deploy_page(
    workspace: Workspace, seen: FleetSnapshot, make: Documents, alias: str, version: str, by: str
) -> DeployPage | WriteOutcome:
    """Return the change of a version and its plan; `by` a person: commit it on a branch. Blocks.

    The plan is for the servers as last read.

    Raises:
        FleetError: the version is not there, cannot be declared, or does not fit; FC6113.
    """
    names = {str(name.version): name for name in other_versions(seen.fleet, alias)}
    declared = str(seen.fleet.adapters[alias].version)
    if not version:
        return DeployPage(alias, declared, (*names,))
    change = None
    if version in names:
        change = version_change(workspace.root, seen.fleet, names[version])
    if change is None:
        raise FleetError.of(
            "FC6114",
            "The version cannot be declared here",
            f"`{alias}` has no other version of that name in fleet.lock, or its present version is "
            "not written as a plain value.",
            hint="Change the declaration by hand, then plan.",
            command="fleetctl adapter list",
        )
    if by:
        return WriteOutcome(complete=True, lines=branch_change(workspace, by, change))
    plan = make.plan(plan_change(workspace, seen.status.live, change))
    return DeployPage(alias, declared, (*names,), version, change.file, change.patch, plan)
