"""Answers the challenges of registries by the logins of `docker login`."""

import base64
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx

from runtime.sources.credential_helpers import helper_of, login_by
from runtime.sources.http import is_confidential


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
