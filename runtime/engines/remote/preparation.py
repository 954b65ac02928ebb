"""Reads the facts of a host; brings folders, vLLM by uv, and the plug-in of vLLM to the host."""

import asyncio
import platform
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Final

from fleet.errors import EngineError, EngineRejectedError
from fleet.hardware import HostSpec, is_cpu
from fleet.hosts import TEMPLATE, HostFacts, instance_name, judge_template, parse_facts, root_script
from fleet.vllm import RELEASE
from runtime.engines.remote.connection import SCRIPT_S, SshConnection
from runtime.engines.remote.copies import SshTransport
from runtime.engines.remote.units import PLUGIN
from runtime.engines.store import SourceFolder
from runtime.extensions import PLUGIN_FOLDER

_SCRIPT: Final = Path(__file__).with_name("facts.sh")
_SCRIPT_S: Final = 90.0
"""Upper bound of the script, above the sum of the bounds of its programs. Seconds."""
_CONNECT_S: Final = 3.0
"""Upper bound of the wait for a port of the host that should not answer. Seconds."""


async def read_facts(
    ssh: SshConnection, host: HostSpec, servers: Collection[str] = ()
) -> HostFacts:
    """Return the facts of a host, which may have these servers; nothing there is changed.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    units = map(instance_name, servers if host.has_system_units else ())
    gpus = any(not is_cpu(device.kind) for device in host.devices)
    given = {"python": host.python_there, "store": host.store_there, "plugin": PLUGIN,
             "gpus": "yes" if gpus else "no", "image": host.image,
             "template": TEMPLATE, "instances": " ".join(units)}  # fmt: skip
    lines = "".join(f"{name}={quote(value)}\n" for name, value in given.items())
    script = lines + _SCRIPT.read_text(encoding="utf-8")
    async with ssh.session():  # so that the making of a connection is no part of the clocks' error
        before = time.time()
    facts = parse_facts((await ssh.run(script, timeout_s=_SCRIPT_S)).stdout)
    after, clock = time.time(), facts.number("clock")
    if clock is not None:  # whole seconds, of a time between the two of this machine
        ahead, error = clock + 0.5 - (before + after) / 2, (after - before + 1) / 2
        facts = replace(facts, clock_s=(ahead, error))
    ports = [device.port for device in host.devices]
    return replace(facts, outside=await _answering(await ssh.host_name(), ports))


async def _answering(name: str, ports: Collection[int]) -> Mapping[int, bool] | None:
    """Return whether ports take connections from here; None: no other machine has the name."""
    with suppress(OSError, UnicodeError):
        found = await asyncio.get_running_loop().getaddrinfo(name, None)
        addresses = {str(address[4][0]).partition("%")[0] for address in found}
        if not any(ip_address(address).is_loopback for address in addresses):
            answers = await asyncio.gather(*(_answers(name, port) for port in ports))
            return dict(zip(ports, answers, strict=True))
    return None


async def _answers(name: str, port: int) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_S):
            (await asyncio.open_connection(name, port))[1].close()
        return True
    return False


_TOOLS: Final = ".local/share/fleetctl/tools"
"""Folder of the programs that fleetctl brings, by digest."""
_UV: Final = ".local/share/fleetctl/uv"
_INSTALL_S: Final = 3600.0
"""Upper bound of an installation of vLLM. Seconds."""
_SIGN_S: Final = 15.0
"""Seconds between two lines about a long step."""
_VLLM: Final = """\
umask 077 && mkdir -p {folder} && exec 9>>{folder}/.fleetctl-incomplete || exit
flock -n 9 || {{ echo 'another installation still runs there; wait for its end' >&2; exit 1; }}
export UV_HTTP_TIMEOUT=300 UV_COMPILE_BYTECODE=1
{python} -c '' 2>/dev/null ||
    {uv} venv --quiet --allow-existing --python '>=3.11,<3.15' {folder} || exit
{python} -c 'import ctypes, shutil' 2>/dev/null ||
    {{ echo 'a Python without its library: sudo apt-get install python3' >&2; exit 1; }}
{uv} pip install --quiet --python {python} --only-binary :all: --torch-backend={backend} \\
    {packages} || exit
VLLM_PLUGINS= {python} -P -c 'import vllm' || exit
rm {folder}/.fleetctl-incomplete
"""
_MOUNTED: Final = """\
rm -rf {new} && mkdir -p {new} && cp -r {brought}/fleetctl_resolver {new} && chmod -R u+w {new} ||
    exit
cd {new} && mkdir fleetctl_resolver-{version}.dist-info && cd *.dist-info || exit
echo 'Metadata-Version: 2.1
Name: fleetctl-resolver
Version: {version}' >METADATA
echo '[vllm.general_plugins]
fleetctl_resolver = fleetctl_resolver.resolver:register' >entry_points.txt
cd && rm -rf {folder} && mv {new} {folder}
"""
"""Makes a folder in which Python finds the plug-in as if installed: containers get it mounted."""


@dataclass(frozen=True, slots=True)
class PreparationStep:
    """A step of the preparation of a host; safe to repeat, also after an interruption."""

    title: str
    script: str
    timeout_s: float = SCRIPT_S
    grows: str = ""
    """Folder whose size tells the progress; empty: the step is short."""
    source: SourceFolder | None = None
    """Brought to `_TOOLS` before the script."""
    is_for_root: bool = False
    """Whether only root can take the step: a person, since fleetctl does nothing as root."""

    def shown(self, host: str) -> str:
        """Return the commands of the step, to be read or run by hand."""
        brought = ""
        if self.source:
            names = " ".join(quote(str(self.source.folder / name)) for name in self.source.names)
            brought = f"# rsync {names} to {host}:{_TOOLS}/{self.source.digest}\n"
        title = f"as root on {host}: {self.title}" if self.is_for_root else self.title
        return f"# {title}\n{brought}{self.script.rstrip()}\n"


def resolver_version() -> str:
    """Return the version of the plug-in that this fleetctl brings."""
    text = (PLUGIN_FOLDER / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def preparation(
    host: HostSpec, facts: HostFacts, servers: Collection[str] = ()
) -> tuple[PreparationStep, ...]:
    """Return the steps that a host needs for these servers, by its facts; none: it is prepared.

    Raises:
        EngineError: FC4110, vLLM has to be installed, and there is no uv for the host or no
            environment.
    """
    steps = list(_steps(host, facts))
    judged = judge_template(host.name, facts) if host.has_system_units else ()
    if any(finding.verdict != "ok" for finding in judged):
        script = root_script(facts.told("user"), facts.told("home"), servers)
        steps.append(PreparationStep("a template of units", script, is_for_root=True))
    return tuple(steps)


async def carry_out(
    ssh: SshConnection, host: HostSpec, step: PreparationStep, emit: Callable[[str], None]
) -> None:
    """Carry out a step, and emit lines about its progress.

    Raises:
        EngineError: FC4110, the step failed; or as `SshConnection.run` and `SshTransport.bring`.
    """
    emit(f"{host.name}: {step.title}{', some GB, which takes minutes' if step.grows else ''}")
    if step.source:
        await SshTransport(ssh, _TOOLS).bring(step.source)
    signs = asyncio.create_task(_signs(ssh, host, step, emit))
    try:
        ended = await ssh.run(step.script, timeout_s=step.timeout_s)
    finally:
        signs.cancel()
    if ended.code:
        told = " ".join(ended.stderr.split())[-400:] or f"status {ended.code}"
        raise _failed(host, f"{step.title}: {told.rstrip('.')}.")


async def _signs(
    ssh: SshConnection, host: HostSpec, step: PreparationStep, emit: Callable[[str], None]
) -> None:
    while step.grows:
        await asyncio.sleep(_SIGN_S)
        with suppress(EngineError):
            size = await ssh.run(f"du -sm {step.grows} | cut -f 1")
            emit(f"{host.name}: {size.stdout.strip()} MiB are there")


def _steps(host: HostSpec, facts: HostFacts) -> Iterator[PreparationStep]:
    store = quote(host.store_there)
    if facts.told("store") != "yes" or facts.told("store_mode") != "700":
        script = f"umask 077 && mkdir -p {store} && chmod 700 {store}\n"
        yield PreparationStep(f"the store {host.store_there}", script)
    if host.image:
        yield from _image_steps(host, facts)
        return
    lacks_vllm = facts.told("vllm") in ("", "none") or facts.told("incomplete") == "yes"
    if not lacks_vllm and facts.told("resolver") == resolver_version():
        return
    uv, own = facts.told("uv"), _own_uv(facts)
    if own and uv != _UV:
        uv, there = _UV, f"{_TOOLS}/{own.digest}/uv"
        title = f"uv, {own.size >> 20} MiB"
        script = f"install -m 700 {there} {uv}.new && mv {uv}.new {uv}\n"
        yield PreparationStep(title, script, source=own)
    if not uv:
        detail = f"`{host.address}` has no uv, and this machine has none for its system."
        raise _failed(host, detail, "curl -LsSf https://astral.sh/uv/install.sh | sh")
    python = PurePosixPath(host.python_there)
    if python.parent.name != "bin":
        raise _failed(host, f"`{python}` is in no environment: it must end in `bin/python`.")
    if lacks_vllm:
        yield _vllm_step(host, python, quote(uv))
    plugin = _plugin()
    script = (
        f"{quote(uv)} pip install --quiet --offline --reinstall --no-deps "
        f"--python {quote(str(python))} {_TOOLS}/{plugin.digest}\n"
    )
    yield PreparationStep("the plug-in of vLLM", script, source=plugin)


def _image_steps(host: HostSpec, facts: HostFacts) -> Iterator[PreparationStep]:
    if facts.told("image") != "yes":
        pull, images = f"podman pull --quiet {host.image}\n", ".local/share/containers"
        yield PreparationStep(f"the image {host.image}", pull, _INSTALL_S, grows=images)
    if facts.told("resolver") != (version := resolver_version()):
        plugin = _plugin()
        script = _MOUNTED.format(
            brought=f"{_TOOLS}/{plugin.digest}", version=version, new=f"{PLUGIN}.new", folder=PLUGIN
        )
        yield PreparationStep("the plug-in of vLLM for containers", script, source=plugin)


def _vllm_step(host: HostSpec, python: PurePosixPath, uv: str) -> PreparationStep:
    declared = next((device.vllm for device in host.devices if device.vllm), "")
    wanted = declared or f"{'.'.join(map(str, RELEASE))}.*"
    only_cpu = all(is_cpu(device.kind) for device in host.devices)
    folder = quote(str(python.parents[1]))
    script = _VLLM.format(
        folder=folder,
        uv=uv,
        python=quote(str(python)),
        backend="cpu" if only_cpu else "auto",
        packages=quote(f"vllm{'-cpu' if only_cpu else ''}=={wanted}"),
    )
    return PreparationStep(
        f"vLLM {wanted} into {python.parents[1]}", script, _INSTALL_S, grows=folder
    )


def _own_uv(facts: HostFacts) -> SourceFolder | None:
    """Return this machine's uv; None: there is none, or the host is another kind of machine."""
    beside = Path(sys.executable).with_name("uv")
    found = beside if beside.is_file() else Path(shutil.which("uv") or "")
    if facts.told("platform") != f"{platform.system()} {platform.machine()}" or not found.name:
        return None
    return SourceFolder.of(found.resolve().parent, ["uv"])


def _plugin() -> SourceFolder:
    modules = sorted((PLUGIN_FOLDER / "fleetctl_resolver").glob("*.py"))
    names = ("pyproject.toml", *(f"fleetctl_resolver/{path.name}" for path in modules))
    return SourceFolder.of(PLUGIN_FOLDER, names)


def _failed(host: HostSpec, detail: str, command: str = "") -> EngineRejectedError:
    return EngineRejectedError.of(
        "FC4110",
        "Host could not be prepared",
        detail,
        hint="Running it again goes on where it stopped. A host that reaches no package index can "
        "have a mirror in `~/.config/uv/uv.toml`, or the same commands run by hand:",
        command=command or f"fleetctl host prepare {host.name} --dry-run",
    )
