"""Reads the references of sources: where the bytes of a version can be had."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from fleet.errors import LibraryError

_FORMS: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "oci": (
        re.compile(
            r"(?P<place>[\w.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/"
            r"(?P<path>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
            r"(?:(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?)"
        ),
        "oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:DIGEST",
    ),
    "s3": (re.compile(r"(?P<place>[\w.-]+)/(?P<path>[^?#]*?)/?"), "s3://BUCKET/PREFIX"),
    "hf": (
        re.compile(r"(?P<place>[\w.-]+/[\w.-]+)(?:@(?P<tag>[\w.-]+))?(?:/(?P<path>[^?#@]*?))?/?"),
        "hf://ORG/REPOSITORY@COMMIT, with a folder of it after a further slash",
    ),
    "https": (
        re.compile(r"(?P<place>[\w.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/(?P<path>[^?#]*?)/?"),
        "https://HOST/FOLDER/, the folder of the version's files",
    ),
}
_OTHER: Final = re.compile(
    r"(?P<place>[\w.-]+(?::\d+)?)(?:/(?P<path>[^?#@]*?))?/?(?:@(?P<tag>[\w.-]+))?"
)
"""Form of the references of extensions."""
_LONGEST: Final = 2000


NO_PACKAGES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SourceReference:
    """A source of a version, taken apart."""

    kind: str
    """Scheme: `oci`, `s3`, `hf`, `https`, or one of an extension."""
    place: str
    """Registry, bucket, repository of the Hub, or host."""
    path: str
    """Repository of a registry, prefix, folder; without outer slashes, perhaps empty."""
    version: str = ""
    """Tag or revision, which may move; empty: none, or the usual one."""
    digest: str = ""
    """Digest of the manifest (`oci`) or commit (`hf`), which pins the bytes."""
    package: str = field(default="", compare=False)
    """Package that has the scheme; empty: fleetctl ships the source."""

    @classmethod
    def parse(cls, text: str, packages: Mapping[str, str] = NO_PACKAGES) -> Self | None:
        """Read a reference; None: a path of this machine.

        `packages`: packages by further scheme, as declared.

        Raises:
            LibraryError: FC3050, a scheme that is unknown, a reference of another form, or one
                that holds a password.
        """
        scheme, found, rest = text.partition("://")
        if not found:
            return None
        if "@" in urlsplit(f"x://{rest}").netloc:
            raise _malformed("A reference holds no password: it ends up in fleet.lock.")
        kind, package = scheme, packages.get(scheme, "")
        if kind not in _FORMS and not package:
            known = ", ".join((*_FORMS, *packages))
            raise _malformed(f"`{scheme}` is no scheme of a source: {known}.")
        pattern, form = _FORMS.get(kind, (_OTHER, f"{kind}://PLACE/PATH@VERSION"))
        match = pattern.fullmatch(rest) if len(rest) <= _LONGEST else None
        parts = match.groupdict() if match else {}
        path = parts.get("path") or ""
        if match is None or ".." in path.split("/") or (kind == "oci" and text.endswith(path)):
            raise _malformed(f"Write it as {form}.")
        digest, tag = parts.get("digest") or "", parts.get("tag") or ""
        if kind == "hf" and re.fullmatch(r"[0-9a-f]{40}", tag):
            digest = tag
        return cls(kind, parts["place"], path, tag, digest, package)

    def pinned(self, digest: str) -> Self:
        """Return the reference with a digest or a commit in the place of tag or branch."""
        return replace(self, version="", digest=digest)

    def __str__(self) -> str:
        """Return the reference as written, a digest in the place of a tag."""
        folder = f"/{self.path}" if self.path else ""
        if self.kind == "hf":
            at = self.digest or self.version
            return f"hf://{self.place}{f'@{at}' if at else ''}{folder}"
        mark = "@" if self.package else ":"
        at = f"@{self.digest}" if self.digest else f"{mark}{self.version}" if self.version else ""
        end = "/" if self.kind in ("s3", "https") else ""
        return f"{self.kind}://{self.place}{folder}{at}{end}"


def _malformed(detail: str) -> LibraryError:
    return LibraryError.of("FC3050", "Source is not understood", detail)
