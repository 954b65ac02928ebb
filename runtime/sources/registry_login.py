"""Answers the challenges of registries by the logins of `docker login`."""

import base64
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx

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
    """Return `NAME:PASSWORD` in base64 from a file that `docker login` wrote; empty: none."""
    try:
        logins = json.loads(config.read_text("utf-8")).get("auths", {})
    except (OSError, ValueError, AttributeError):
        return ""
    for name in (registry, f"https://{registry}", f"https://{registry}/v1/"):
        match logins.get(name):
            case {"auth": str(login)}:
                return login
            case {"username": str(user), "password": str(password)}:
                return base64.b64encode(f"{user}:{password}".encode()).decode()
            case _:
                continue
    return ""
