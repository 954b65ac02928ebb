"""The process of a gateway: `python -m runtime.gateway.process --state-dir … --name …`."""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from fleet.errors import FleetError, NewerFormatError
from fleet.hardware import ServerTls
from fleet.spec import GatewaySpec
from runtime.files import PRIVATE_FOLDER, locked_file, make_private, read_plain, replace_file
from runtime.gateway.admin.admin import Admin
from runtime.gateway.admin.admin_socket import (
    SOCKET,
    AdminServer,
    certificate_path,
    is_url,
    socket_path,
)
from runtime.gateway.admin.state_dir import (
    FLEET_FILE,
    LOCK,
    PREVIOUS_FILE,
    gateway_dir,
    keys_of_servers,
    operator_secret,
    read_table,
    run_dir,
    spec_document,
    write_table,
)
from runtime.gateway.http.server import HttpServer
from runtime.gateway.request.app import GatewayApp
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.routing import digest
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import InvalidTableError, build_routes
from runtime.gateway.traffic.limits import MonthlyUse
from runtime.gateway.traffic.probes import LoadProbes, check_health
from runtime.processes import raise_file_limit, start_mark
from runtime.usage.captured import CaptureWriter
from runtime.usage.log import USAGE_FILE, UsageLog, keep_synced

if sys.platform != "win32":
    import uvloop

_LOCK_S = 0.2
"""Upper bound in seconds of the wait for the lock, which a process that only looks holds too."""
_SWITCH_S = 0.001
"""Upper bound in seconds for which a thread that builds a table keeps the event loop waiting."""


@asynccontextmanager
async def serving(
    state_dir: Path,
    gateway: GatewaySpec,
    hurry: asyncio.Event | None = None,
    restart: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """Serve while the block runs; yield the URL for clients (port 0 is a free port).

    Once `hurry` is set, the end waits for no request. The admin side sets `restart` when told so.

    The admin side opens first and the table's file is read after that, so that a table which is
    published meanwhile arrives one way or the other.

    Raises:
        FleetError: the gateway runs already, cannot listen, or must not serve the table.
    """
    folder = gateway_dir(state_dir, gateway.name)
    make_private(folder)
    folders = (folder, *_made(run_dir(state_dir, gateway.name)))
    with _locked(folders, gateway) as record, UsageLog(folder / USAGE_FILE) as log:
        secret = operator_secret(state_dir, gateway)
        # A gateway elsewhere has no folder here that `usage forget` could empty.
        captured = None if is_url(gateway.admin) else CaptureWriter(state_dir, gateway.name)
        keys = keys_of_servers(state_dir, gateway)
        state = GatewayState(log, digest(secret), captured, keys, MonthlyUse.open(folder))
        remote = is_url(gateway.admin)
        keep = partial(_keep, state_dir, folder / FLEET_FILE) if remote else None
        with suppress(OSError):
            state.fleet_id = read_plain(folder / FLEET_FILE).decode() if remote else ""
        admin = AdminServer(Admin(state, secret if remote else "", keep, restart).application())
        server = HttpServer(GatewayApp(state))
        get, balancer = server.pool.get, state.balancer
        on_report = state.admission.take_limits
        probes = LoadProbes(state.urls, get, state.limiter, balancer, on_report)
        state.limiter.probe = probes.start
        tasks = [asyncio.create_task(keep_synced(log))]
        try:
            if remote:
                await admin.open_tcp(gateway.admin, certificate_path(state_dir, gateway))
            else:
                path = folders[-1] / SOCKET if not gateway.admin else None
                await admin.open_unix(path or socket_path(state_dir, gateway), folder / SOCKET)
            await _load(state, state_dir)
            url = await _listen(server, gateway)
            record(url)
            tasks.append(
                asyncio.create_task(
                    check_health(state.urls, get, balancer, server.pool.take_listing)
                )
            )
            state.ready.set()
            yield url
        finally:
            state.ready.clear()
            await server.close(hurry or asyncio.Event())
            await probes.close()
            for task in tasks:
                task.cancel()
            await admin.close()


def _keep(state_dir: Path, file: Path, table: RoutingTable, fleet_id: str) -> None:
    """Write a table for the next start; where that fails, the table is served all the same."""
    try:
        replace_file(file, fleet_id.encode())
        write_table(state_dir, table, urgent=True)
    except (OSError, FleetError) as error:
        why = error.diagnostics[0].detail if isinstance(error, FleetError) else error.strerror
        sys.stderr.write(f"Revision {table.revision} is served and was not written: {why}\n")


def _made(folder: Path) -> Iterator[Path]:
    """Make a private folder and yield the folder; nothing where the home takes none."""
    with suppress(OSError):
        make_private(folder)
        folder.chmod(PRIVATE_FOLDER)
        yield folder


async def _load(state: GatewayState, state_dir: Path) -> None:
    try:
        table = read_table(state_dir)
    except FleetError as error:
        table = read_table(state_dir, PREVIOUS_FILE)
        if table is None:
            raise
        damage = error.diagnostics[0]
        again = (
            damage.hint
            if isinstance(error, NewerFormatError)
            else "The next change of routes writes it anew; what is due: fleetctl plan"
        )
        sys.stderr.write(
            f"{damage.detail} Served is the table before it, revision "
            f"{table.revision}: keys that were revoked since then open it, and rollouts are where "
            f"they were. {again}\n"
        )
    if table is None or table.revision <= state.active.routes.revision:
        return
    try:
        routes = await asyncio.to_thread(build_routes, table, state.server_keys)
        await state.active.apply(routes)
    except InvalidTableError as error:
        raise FleetError.of(
            "FC6006", "The routing table is not to be served", f"{error}."
        ) from None


async def _listen(server: HttpServer, gateway: GatewaySpec) -> str:
    host, _, port = gateway.listen.rpartition(":")
    try:
        bound = await server.open(host.strip("[]"), int(port))
    except OSError as error:
        raise FleetError.of(
            "FC6007",
            "The gateway cannot listen",
            f"`{gateway.listen}`: {error.strerror or error}.",
            hint="Free the port, or declare another `listen` on the gateway.",
        ) from None
    return f"http://{host}:{bound}"


@contextmanager
def _locked(folders: Sequence[Path], gateway: GatewaySpec) -> Iterator[Callable[[str], None]]:
    """Hold the gateway's locks: the gateway runs for as long as one is held.

    Yields the function that records, beside the process, the URL at which the gateway is ready.
    """
    with ExitStack() as stack:
        try:
            handles = [
                stack.enter_context(locked_file(folder / LOCK, timeout_s=_LOCK_S))
                for folder in folders
            ]
        except BlockingIOError:
            raise FleetError.of(
                "FC6008",
                "The gateway runs already",
                f"Gateway `{gateway.name}` of this state folder has a process.",
                command="fleetctl gateway status",
            ) from None
        pid = os.getpid()

        def record(url: str) -> None:
            document = {
                "pid": pid,
                "process_start": start_mark(pid),
                "url": url,
                "admin": gateway.admin,
                "declared": spec_document(gateway),
            }
            for handle in handles:
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(document).encode(), 0)

        record("")
        yield record
        for folder in folders[1:]:  # the first lock keeps another process out meanwhile
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
                folder.parent.rmdir()


async def serve_until_signal(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Serve until SIGTERM or SIGINT, then let requests finish; a second signal ends them.

    Returns whether the process was told to start anew, and by no signal to stop.
    """
    stop, hurry, restart = asyncio.Event(), asyncio.Event(), asyncio.Event()
    signalled = False
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        nonlocal signalled
        signalled = True
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with serving(state_dir, gateway, hurry, restart) as url:
        sys.stderr.write(f"gateway {gateway.name} listens on {url}\n")
        tune()
        told = asyncio.create_task(restart.wait())
        told.add_done_callback(lambda _: stop.set())
        await stop.wait()
        told.cancel()
    return restart.is_set() and not signalled


def tune() -> None:
    """Set the interpreter up for a process that serves.

    Cyclic garbage is collected less often, and never among what is there for good: requests leave
    none behind, and collecting took a seventh of the time. A thread beside the event loop, which
    builds a table, gives way after 1 ms instead of 5.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(_SWITCH_S)


def run(state_dir: Path, gateway: GatewaySpec) -> bool:
    """Serve in this process as `serve_until_signal`; raises as `serving`."""
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve_until_signal(state_dir, gateway))


def _main() -> None:
    parser = argparse.ArgumentParser(description="Run one gateway.")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--admin", default="")
    parser.add_argument("--secret", default="", help="reference, such as `env:NAME`")
    parser.add_argument("--servers-secret", default="", help="reference, such as `env:NAME`")
    parser.add_argument("--server-key", action="append", nargs=2, default=[], help="of an attached")
    parser.add_argument("--server-tls", action="append", nargs=2, default=[], help="as JSON")
    parser.add_argument("--certificate", default="", help="PEM file with certificate and key")
    args = parser.parse_args()
    spec = GatewaySpec(args.name, args.listen, args.admin, args.secret)
    newer = {"servers_secret": args.servers_secret, "certificate": args.certificate}
    keys = tuple((server, reference) for server, reference in args.server_key)
    tls = tuple((server, ServerTls(**json.loads(files))) for server, files in args.server_tls)
    try:
        if run(args.state_dir, replace(spec, **newer, server_keys=keys, server_tls=tls)):
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (no shell is wanted)
    except FleetError as error:
        sys.exit(
            "\n".join(
                f"Error: {d.summary} ({d.code}): {d.detail} {d.hint}" for d in error.diagnostics
            )
        )


if __name__ == "__main__":
    _main()
