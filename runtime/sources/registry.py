"""Speaks to an OCI registry: manifests, blobs, logins, also by helpers of docker.

Source: OCI distribution specification 1.1; ModelPack model specification 0.0.7 (CNCF).
"""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import httpx

from fleet.errors import LibraryError
from runtime.engines.protocol import DirectFile
from runtime.sources.http import HttpSource, base_url, is_confidential
from runtime.sources.reference import SourceReference
from runtime.sources.remote import (
    Listing,
    Reading,
    RemoteFile,
    absent,
    differing,
    is_part_of_a_version,
    refused,
)  # fmt: skip

_LIMIT_S: Final = 60.0
"""Upper bound of the time of a helper, which may ask its own server or a person. Seconds."""
_NOT_FOUND: Final = "credentials not found"
_IDENTITY: Final = "<token>"
"""The name that comes with an identity token in the place of a password."""


def helper_of(registry: str, config: Mapping[str, Any]) -> str:
    """Return the name of the helper that docker's configuration has for a registry; empty: none."""
    own = config.get("credHelpers")
    name = own.get(registry) if isinstance(own, dict) else None
    name = name or config.get("credsStore")
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) else ""


def login_by(helper: str, registry: str) -> str:
    """Return `NAME:PASSWORD` in base64 from a helper; empty: the helper has none.

    Raises:
        LibraryError: FC3052, the helper cannot be run, fails, or gives no password.
    """
    program = f"docker-credential-{helper}"
    for name in (registry, f"https://{registry}", f"https://{registry}/v1/"):
        answer = _answer(program, name)
        if answer is None:
            continue
        match answer:
            case {"Username": str(user), "Secret": str(secret)} if user != _IDENTITY:
                return base64.b64encode(f"{user}:{secret}".encode()).decode()
            case {"Username": str()}:
                why = f"{program} gives an identity token, which fleetctl cannot use"
            case _:
                why = f"{program} answered something else than a login"
        raise _failed(registry, why)
    return ""


def _answer(program: str, name: str) -> Any:
    """Return the answer of a helper for a name; None: it has no login. No output is ever shown."""
    try:
        done = subprocess.run(
            [program, "get"], input=name, capture_output=True, text=True, check=False,
            timeout=_LIMIT_S,
        )  # fmt: skip
        if done.returncode == 0:
            return json.loads(done.stdout)
    except FileNotFoundError:
        raise _failed(
            name, f"{program}, which docker's configuration names, is not there"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(name, f"{program} cannot be asked ({type(error).__name__})") from None
    except ValueError:
        raise _failed(name, f"{program} answered something else than a login") from None
    if _NOT_FOUND in done.stdout.lower():
        return None
    raise _failed(name, f"{program} failed with exit code {done.returncode}")


def _failed(place: str, why: str) -> LibraryError:
    return refused(place, why, "See whether `docker pull` from there works, or log in again.")


class RegistryAuth(httpx.Auth):
    """Answers a registry's challenge by a token, or by name and password."""

    def __init__(self, login: str = "", scope: str = "") -> None:
        """`login`: `NAME:PASSWORD` in base64, empty: none. `scope`: rights to ask for."""
        self._login, self._scope, self._header = login, scope, ""

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send a request, and again with the login that a challenge asks for."""
        if self._header:
            request.headers["Authorization"] = self._header
        answer = yield request
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return
        scheme, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        if scheme.lower() == "bearer":
            asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            realm = asked.pop("realm", "")
            if not is_confidential(realm):
                return
            asked["scope"] = self._scope or asked.get("scope", "")
            headers = {"Authorization": f"Basic {self._login}"} if self._login else {}
            token = yield httpx.Request("GET", realm, params=asked, headers=headers)
            if not token.is_success:
                return
            given = json.loads(await token.aread())
            self._header = f"Bearer {given.get('token') or given.get('access_token')}"
        elif scheme.lower() == "basic" and self._login:
            self._header = f"Basic {self._login}"
        else:
            return
        request.headers["Authorization"] = self._header
        yield request


def login_of(registry: str, config: Path) -> str:
    """Return `NAME:PASSWORD` in base64 from the file of `docker login`, or from its helper.

    Empty: neither has one. As for docker, a helper goes before what the file has.

    Raises:
        LibraryError: FC3052, the helper fails.
    """
    content = _read(config)
    helper = helper_of(registry, content)
    if helper and (login := login_by(helper, registry)):
        return login
    logins = content.get("auths")
    for name in (registry, f"https://{registry}", f"https://{registry}/v1/"):
        match logins.get(name) if isinstance(logins, dict) else None:
            case {"auth": str(login)}:
                return login
            case {"username": str(user), "password": str(password)}:
                return base64.b64encode(f"{user}:{password}".encode()).decode()
            case _:
                continue
    return ""


def _read(config: Path) -> dict[str, Any]:
    """Return docker's configuration; empty: there is none that can be read."""
    try:
        content = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT: Final = "application/vnd.cncf.model.manifest.v1+json"
FILE_PATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
"""Annotations of a layer with the name of its file: ModelPack's, and that of `oras`."""
_LOGIN: Final = "Log in: docker login REGISTRY, or oras login REGISTRY."
_PACKED: Final = ("+gzip", "+zstd", ".tar", "+tar")


class Registry:
    """A repository of a registry."""

    def __init__(
        self, reference: SourceReference, login: str = "", *, writes: bool = False
    ) -> None:
        self.reference = reference
        rights = "pull,push" if writes else "pull"
        auth = RegistryAuth(login, f"repository:{reference.path}:{rights}")
        self.http = HttpSource(str(reference), _LOGIN, auth)
        self.url = f"{base_url(reference.place)}/v2/{reference.path}"

    async def listing(self) -> Listing:
        """Return the files of the manifest, whose bytes are checked by their digest."""
        reference = self.reference
        name = reference.digest or reference.version or "latest"
        answer = await self.http.document(f"{self.url}/manifests/{name}", {"Accept": MANIFEST})
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if reference.digest and digest != reference.digest:
            raise differing(str(reference), f"its manifest has digest {digest}")
        pinned = str(reference.pinned(digest))
        manifest = self.http.decoded(answer)
        layers = manifest.get("layers") if isinstance(manifest, dict) else None
        if not isinstance(layers, list):
            raise absent(
                pinned, "this is no manifest of a version, but perhaps an index of several"
            )
        files = tuple(file for layer in layers if (file := layer_file(layer, pinned)) is not None)
        return Listing(pinned, files)

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on."""
        return self.http.reading(f"{self.url}/blobs/{file.at}", start)

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return where another machine reads a blob, with a token that reads this repository."""
        return await self.http.direct(file.name, f"{self.url}/blobs/{file.at}", ends=True)

    async def close(self) -> None:
        """Close connections."""
        await self.http.close()


def layer_file(layer: Mapping[str, Any], place: str) -> RemoteFile | None:
    """Return the file of a layer; None: it is not part of a version."""
    match layer:
        case {"digest": str(digest), "size": int(size), "annotations": dict(annotations)}:
            name = annotations.get(FILE_PATH) or annotations.get(TITLE) or ""
        case _:
            return None
    if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
        raise differing(place, f"a layer is called `{name!s:.80}`, which leads out of its folder")
    if not is_part_of_a_version(name):
        return None
    if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) is None or size < 0:
        raise differing(place, f"the layer of `{name}` has no sha256 digest")
    if str(layer.get("mediaType", "")).endswith(_PACKED):
        raise differing(place, f"the layer of `{name}` is packed; push it as it is (`.raw`)")
    return RemoteFile(name, digest, size, digest.removeprefix("sha256:"))
