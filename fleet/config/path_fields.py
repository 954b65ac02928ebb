"""Lists the paths that declarations name, of files and folders that fleetctl reads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fleet.config.files.merge import Path
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import Receivers
from fleet.response_format import FormatKind
from fleet.vllm import path_in

_FILE = "file:"


@dataclass(frozen=True, slots=True)
class DeclaredPath:
    """A path, relative to the project or absolute."""

    at: Path
    """Keys that lead to the path in the declarations."""
    text: str
    is_optional: bool = False
    """Whether the path is only read where a file is there: a model as servers elsewhere see it."""
    is_socket: bool = False
    is_secret: bool = False
    is_client_key: bool = False
    """Whether this is an API key of a client, which only the gateway checks."""


def declared_paths(given: Declarations) -> Iterator[DeclaredPath]:
    """Yield every path that fleetctl would read; programs and folders of servers are no such."""
    yield DeclaredPath(("library",), given.library)
    yield from _named(("state", "file"), given.state.file)
    yield from _secret(("state", "postgresql"), given.state.postgresql)
    yield from _secret(("state", "evidence_key"), given.state.evidence_key)
    for name, base in given.bases.items():
        yield DeclaredPath(("bases", name, "model"), base.model, is_optional=True)
        for flag, value in base.flags.items():
            if path := path_in(flag, str(value)):
                yield DeclaredPath(("bases", name, "flags", flag), path, is_optional=True)
    for name, gate in given.gates.items():
        yield from _named(("gates", name, "golden"), gate.golden)
    for name, key in given.signatures.items():
        yield DeclaredPath(("signatures", name, "file"), key.file)
    yield from _of_hosts(given)
    yield from _of_gateways(given)
    yield from _secret(("servers_secret",), given.servers_secret)
    if given.evals.judge:
        yield from _secret(("evals", "judge", "key"), given.evals.judge.key)
    yield from _of_receivers(("notify",), given.notify)
    yield from _of_clients(given)


def _of_receivers(at: Path, notify: Receivers | None) -> Iterator[DeclaredPath]:
    if notify:
        yield from _named((*at, "template"), notify.template)
        yield from _secret((*at, "webhook"), notify.webhook)
        yield from _secret((*at, "mail", "login"), notify.mail.login if notify.mail else None)


def _of_hosts(given: Declarations) -> Iterator[DeclaredPath]:
    for name, host in given.hosts.items():
        yield from _secret(("hosts", name, "token"), host.token)
        if host.engine == "ray" and host.store:
            yield DeclaredPath(("hosts", name, "store"), host.store)
        for server, attached in host.servers.items():
            at = ("hosts", name, "servers", server)
            yield from _secret((*at, "api_key"), attached.api_key)
            files = attached.tls.model_dump(exclude={"name"}) if attached.tls else {}
            for key, path in files.items():
                if path:
                    yield DeclaredPath((*at, "tls", key), path, is_optional=True)


def _of_gateways(given: Declarations) -> Iterator[DeclaredPath]:
    for name, gateway in given.gateways.items():
        at = ("gateways", name)
        yield from _secret((*at, "secret"), gateway.secret)
        if gateway.admin and "://" not in gateway.admin:
            yield DeclaredPath((*at, "admin"), gateway.admin, is_socket=True)
        if gateway.certificate:
            yield DeclaredPath((*at, "certificate"), gateway.certificate, is_optional=True)


def _of_clients(given: Declarations) -> Iterator[DeclaredPath]:
    for name, client in given.clients.items():
        at = ("clients", name)
        for key, secret in client.keys.items():
            for path in _secret((*at, "keys", key), secret):
                yield replace(path, is_client_key=True)
        yield from _of_receivers((*at, "notify"), client.notify)
        for task, adapter in client.adapters.items():
            own = (*at, "adapters", task)
            yield from _named((*own, "golden"), adapter.golden)
            yield from _named((*own, "rolling"), adapter.rolling)
            if adapter.format and adapter.format.kind is FormatKind.SCHEMA:
                yield DeclaredPath((*own, "format", "json_schema"), adapter.format.text)


def _named(at: Path, text: str | None) -> Iterator[DeclaredPath]:
    if text:
        yield DeclaredPath(at, text)


def _secret(at: Path, reference: str | None) -> Iterator[DeclaredPath]:
    if reference and reference.startswith(_FILE):
        yield DeclaredPath(at, reference.removeprefix(_FILE), is_secret=True)
