"""Decides the declarations of servers that run already: bases, hosts, clients and adapters.

A server tells names, paths and the base. The rest is a guess or unknown, and is asked: a question
stands beside the field in the file that is written.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fleet.errors import FleetError
from fleet.names import AdapterName, Version, suggest_id
from fleet.spec import AdapterSpec, FleetSpec

_VERSION: Final = re.compile(
    r"(?P<stem>.+?)(?:[-_./:@ ]?v(?P<v>\d{1,9}(?:\.\d{1,9}){0,2})"
    r"|[-_/:@ ](?P<n>\d{1,9}(?:\.\d{1,9}){1,2}))",
    re.IGNORECASE,
)
"""A name that ends in a version, such as `acme-lora-v3` or `acme-lora-2.1`."""
_LONGEST: Final = 60
"""Upper bound of the characters of a server's name that an id is made of."""


@dataclass(frozen=True, slots=True)
class LiveServer:
    """The answers of a server that runs already."""

    url: str
    machine: str
    """Host in the URL; empty: this machine, whose paths may be those of the server."""
    port: int
    names: tuple[str, ...]
    """Served names of the base, the main name first."""
    root: str
    """Path or name of the base, from the command line of the server."""
    adapters: Mapping[str, str]
    """Path by name of an adapter."""
    max_model_len: int | None = None
    max_loras: int | None = None
    """Slots; None: the server has not told, as no adapter was asked since its start."""
    takes_adapters: bool | None = None
    """Whether adapters are loaded and unloaded at run time; None: not visible."""
    api_key: str = ""
    """Reference of the key that the server asked for; empty: it asked for none."""


@dataclass(frozen=True, slots=True)
class ImportedServer:
    """A server with the names of its declaration."""

    host: str
    name: str
    base: str
    live: LiveServer


@dataclass(frozen=True, slots=True)
class ImportedAdapter:
    """An adapter with the names of its declaration."""

    name: AdapterName
    asked: str
    """Name that clients ask for today."""
    served: str
    """Name on the servers; another than the asked one behind a proxy."""
    folders: tuple[str, ...]
    """Folders of the adapter on the servers, mostly a single folder."""
    servers: tuple[LiveServer, ...]
    has_version: bool
    """Whether the version was read from the name; else it is the first."""

    @property
    def is_here(self) -> bool:
        """Whether its folder may be read on this machine."""
        return len(self.folders) == 1 and not any(server.machine for server in self.servers)


@dataclass(frozen=True, slots=True)
class Imported:
    """The declarations of servers that run already."""

    bases: Mapping[str, LiveServer]
    """The first server of every new base, by base."""
    servers: tuple[ImportedServer, ...]
    adapters: tuple[ImportedAdapter, ...]
    left_out: tuple[str, ...] = ()
    """Sentences about names and settings that are not carried over."""

    @property
    def clients(self) -> dict[str, tuple[ImportedAdapter, ...]]:
        """The adapters by client, sorted."""
        found: dict[str, list[ImportedAdapter]] = {}
        for adapter in sorted(self.adapters, key=lambda adapter: str(adapter.name)):
            found.setdefault(adapter.name.client, []).append(adapter)
        return {client: tuple(own) for client, own in found.items()}


@dataclass(slots=True)
class _Ids:
    """Gives ids that are not taken yet."""

    taken: set[str] = field(default_factory=set)

    def free(self, text: str, instead: str) -> str:
        """Return the id nearest to a text; with a number, where it is taken."""
        wanted = suggest_id(text[:_LONGEST]) or instead
        numbered = (f"{wanted}_{number}" for number in range(2, len(self.taken) + 3))
        name = next(name for name in (wanted, *numbered) if name not in self.taken)
        self.taken.add(name)
        return name


def imported_from(
    servers: Sequence[LiveServer],
    asked: Mapping[tuple[str, str], str] | None = None,
    fleet: FleetSpec | None = None,
) -> Imported:
    """Decide the declarations of servers.

    `asked`: the name that clients ask for, by URL and name on the server; adapters that are not in
    it are left out. None: clients ask for the names on the servers. `fleet`: the fleet that the
    servers join; its bases are known by `model` and `known_as`.

    Raises:
        FleetError: FC6031, a server is declared already.
        FleetError: FC6095, a name means adapters of different bases, one of them perhaps declared.
    """
    bases: dict[str, LiveServer] = {}
    declared = {} if fleet is None else fleet.bases
    theirs = {} if fleet is None else fleet.hosts
    attached = {server.url: server for host in theirs.values() for server in host.attached}
    base_ids, host_ids = _Ids({*declared}), _Ids({*theirs})
    server_ids = _Ids({server.name for server in attached.values()})
    hosts: dict[str, str] = {}
    found: list[ImportedServer] = []
    left: list[str] = []
    for server in servers:
        if known := attached.get(server.url):
            detail = f"{server.url} is the server `{known.name}` of the fleet. Nothing was written."
            raise FleetError.of("FC6031", "Already declared", detail)
        names = {name: {base.model, *base.known_as} for name, base in declared.items()}
        names |= {name: {its.root} for name, its in bases.items()}
        base = next((name for name, its in names.items() if server.root in its), "")
        if not base:
            short = server.names[0].rstrip("/").rpartition("/")[2]
            base = base_ids.free(short, "base")
            bases[base] = server
        machine = server.machine or "localhost"
        if machine not in hosts:
            is_number = machine[:1].isdigit() or ":" in machine
            hosts[machine] = host_ids.free(f"vllm_{machine}" if is_number else machine, "vllm")
        name = server_ids.free(f"{hosts[machine]}_{server.port}", "vllm")
        found.append(ImportedServer(hosts[machine], name, base, server))
    adapters = tuple(_adapters(found, asked, left, {} if fleet is None else fleet.adapters))
    served = sorted({name for server in servers for name in server.names})
    left.append(
        f"Requests for the base itself ({', '.join(map(_quoted, served))}): gateways answer for "
        "adapters alone."
    )
    return Imported(bases, tuple(found), adapters, tuple(left))


def _adapters(
    servers: Iterable[ImportedServer],
    asked: Mapping[tuple[str, str], str] | None,
    left: list[str],
    declared: Mapping[str, AdapterSpec],
) -> Iterator[ImportedAdapter]:
    """Yield the adapters, those of several servers once; note in `left` what is left out.

    `declared`: the adapters of the fleet that the servers join, by alias.
    """
    holders: dict[str, list[tuple[ImportedServer, str]]] = {}
    for server in servers:
        for served in server.live.adapters:
            url = server.live.url
            wanted = served if asked is None else asked.get((url, served))
            if wanted is None:
                left.append(f"Adapter {_quoted(served)} of {url}: the proxy does not name it.")
            else:
                holders.setdefault(wanted, []).append((server, served))
    taken = {(its.name.client, its.name.task) for its in declared.values()}
    known = {name: its for its in declared.values() for name in {its.alias, its.alias_for} - {""}}
    for wanted, places in sorted(holders.items()):
        first, served = places[0]
        its = known.get(wanted)
        _require_same_base(wanted, [server for server, _ in places], its)
        if its is not None:
            left.append(
                f"Adapter {_quoted(wanted)}: `{its.alias}` is it already; with more `replicas` it "
                "is placed here, too."
            )
            continue
        same = [server for server, other in places if other == served]
        for server, other in places:
            if other != served:
                left.append(
                    f"Adapter {_quoted(other)} of {server.live.url}: {_quoted(wanted)} means "
                    f"{_quoted(served)} already."
                )
        name, has_version = _name(wanted, served, first.base, taken)
        taken.add((name.client, name.task))
        lives = tuple(server.live for server in same)
        folders = tuple(dict.fromkeys(live.adapters[served] for live in lives))
        yield ImportedAdapter(name, wanted, served, folders, lives, has_version)


def _require_same_base(
    name: str, servers: Sequence[ImportedServer], declared: AdapterSpec | None
) -> None:
    shown = [f"{its.live.url} (base {_quoted(its.live.root)})" for its in servers]
    base, first = servers[0].base, shown[0]
    if declared is not None:
        base = declared.name.base
        first = f"the declared `{declared.alias}` (base {_quoted(base)})"
    for server, place in zip(servers, shown, strict=True):
        if server.base != base:
            raise FleetError.of(
                "FC6095",
                "One name for adapters of different bases",
                f"{_quoted(name)} is served by {first} and by {place}. A client that asks for "
                "the name would get either. Nothing was written.",
                hint="Import these servers into two fleets, or first rename one of the adapters, "
                "on its server and in its client.",
            )


def _name(
    asked: str, served: str, base: str, taken: set[tuple[str, str]]
) -> tuple[AdapterName, bool]:
    """Return the full name of an adapter, and whether its version was read from a name."""
    with suppress(ValueError):
        own = AdapterName.parse(served)
        if asked == served and (own.client, own.task) not in taken:
            beside = replace(own.version, patch=own.version.patch + 1)  # another name to load
            return replace(own, base=base, version=beside), True
    stem, version = _version(asked)
    if version is None:
        version = _version(served)[1]
    parts = re.split(r"[-/:@. ]+", stem, maxsplit=1)
    if len(parts) == 1:
        parts = stem.strip("_").split("_", 1)
    client = suggest_id(parts[0][:_LONGEST]) or "client"
    tasks = _Ids({task for owner, task in taken if owner == client})
    wanted = parts[1] if len(parts) > 1 and suggest_id(parts[1]) else "main"
    if suggest_id(wanted) in tasks.taken:  # several versions of a task answer to names of their own
        wanted = asked[len(parts[0]) :]
    task = tasks.free(wanted, "main")
    return AdapterName(client, task, base, version or Version(1, 0, 0)), version is not None


def _version(name: str) -> tuple[str, Version | None]:
    """Return a name without the version at its end, and the version."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return name, None
    numbers = [int(number) for number in (match["v"] or match["n"]).split(".")]
    return match["stem"], Version(*[*numbers, 0, 0][:3])


def _quoted(text: str) -> str:
    return f"`{text}`"


_PROVIDERS: Final = ("hosted_vllm", "openai", "vllm")
"""Providers by which a proxy calls vLLM over HTTP."""
_KNOWN: Final = {"model", "api_base", "model_name", "litellm_params"}
_NO_KEYS: Final = {"none", "EMPTY", "dummy", ""}
_VARIABLE: Final = "os.environ/"
"""Beginning of a value that names a variable."""


@dataclass(slots=True)
class ProxyNames:
    """The names of a proxy."""

    asked: dict[tuple[str, str], str] = field(default_factory=dict)
    """Name that clients ask for, by URL of the server and name there."""
    keys: dict[str, str] = field(default_factory=dict)
    """References of the keys that servers ask for, by URL of the server."""
    left_out: list[str] = field(default_factory=list)
    """Sentences about names and settings that are not carried over."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers."""
        return tuple(dict.fromkeys(url for url, _ in self.asked))


def proxy_names(document: Mapping[str, Any], file: str) -> ProxyNames:
    """Return the names in a proxy's configuration.

    Raises:
        FleetError: FC6098, there is no list of models, or none of a vLLM server.
    """
    models, found = document.get("model_list"), ProxyNames()
    for model in models if isinstance(models, list) else ():
        _add(model, found)
    if not found.asked:
        raise FleetError.of(
            "FC6098",
            "No vLLM server in LiteLLM's configuration",
            f"`{file}` has no entry of `model_list` with a `model_name`, an `api_base` and a "
            "`model` that begins with `hosted_vllm/` or `openai/`.",
            hint="Name the servers themselves: fleetctl import http://10.0.0.5:8000.",
        )
    found.left_out += [f"`{section}`." for section in document if section != "model_list"]
    return found


def _add(model: Any, found: ProxyNames) -> None:
    """Add an entry of `model_list`, or a sentence with the reason to leave the entry out."""
    entry = model if isinstance(model, dict) else {}
    given = entry.get("litellm_params")
    parameters: dict[str, Any] = given if isinstance(given, dict) else {}
    name, base = entry.get("model_name"), str(parameters.get("api_base"))
    called = parameters.get("model")
    provider, _, served = str(called or "").partition("/")
    is_url = base.startswith(("http://", "https://"))
    if not (isinstance(name, str) and is_url and served and provider in _PROVIDERS):
        found.left_out.append(f"Model `{name}`: `{called}` is not of a vLLM server by its URL.")
        return
    place = (base.rstrip("/").removesuffix("/v1").rstrip("/"), served)
    if (key := str(parameters.get("api_key"))).startswith(_VARIABLE):
        found.keys[place[0]] = f"env:{key.removeprefix(_VARIABLE)}"
    if found.asked.setdefault(place, name) != name:
        found.left_out.append(f"Model `{name}`: `{found.asked[place]}` means `{served}` already.")
    found.left_out += _parameters(name, parameters, entry)


def _parameters(
    name: str, parameters: Mapping[str, Any], entry: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the settings of an entry beside names and address."""
    others = {*map(str, (*parameters, *entry))} - _KNOWN
    key = str(parameters.get("api_key", ""))
    if key in _NO_KEYS or key.startswith(_VARIABLE):
        others.discard("api_key")
    if others:
        yield f"Model `{name}`: {', '.join(f'`{other}`' for other in sorted(others))}."
