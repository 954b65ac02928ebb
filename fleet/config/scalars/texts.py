"""Reads names, versions, secret references, addresses, flags, days, weeks and digests."""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from fleet.config.scalars.quantities import MAX_PORT, cached, shown, text_schema, wrong
from fleet.names import ID_PATTERN, SSH_DESTINATION, VERSION_PATTERN, is_id, suggest_id
from fleet.policies import ChangeWindow
from fleet.vllm import split_words

KEY = "required_version"
PATTERN = r"(==|!=|<=|>=|~=|<|>)\s*([0-9]+(?:\.[0-9]+){0,3})"
"""A condition of a requirement: an operator, and a version of numbers alone."""

_CONDITION = re.compile(PATTERN)
_RELEASE = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)[._-]?((?:a|b|rc|c|alpha|beta|pre|dev)[0-9.]*)?")


def conditions(requirement: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return operators and versions of a requirement such as `>=0.1,<2`.

    Raises:
        ValueError: the requirement is malformed; the text names the part.
    """
    found = []
    for part in requirement.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"`{part.strip()[:40]}` is not an operator and a version")
        release = tuple(int(number) for number in match[2].split("."))
        if match[1] == "~=" and len(release) == 1:
            raise ValueError(f"`{part.strip()}` needs a version of two numbers or more")
        found.append((match[1], release))
    return found


def allows(requirement: str, running: str) -> bool:
    """Say whether a release keeps every condition of a requirement.

    Numbers that are not written are 0. A release before a final release, such as `2.0rc1`, counts
    as earlier than 2.0, and the condition `<2` refuses it.

    Raises:
        ValueError: the requirement or the version is malformed.

    Source:
        PEP 440, version specifiers; wildcards, epochs and local versions are left out.
    """
    match = _RELEASE.match(running)
    if match is None:
        raise ValueError(f"`{running[:40]}` is not a version")
    release, final = tuple(int(number) for number in match[1].split(".")), match[2] is None
    return all(_keeps(*condition, release, final=final) for condition in conditions(requirement))


def refusal(requirement: object, running: str) -> str:
    """Return why a release must not read a fleet; empty: the release may.

    `requirement` is as declared; None: any release may. A malformed requirement is reported with
    the other values, not here.
    """
    try:
        if not isinstance(requirement, str) or allows(requirement, running):
            return ""
    except ValueError:
        return ""
    return (
        f"This is fleetctl {running}, and the fleet requires `{requirement}`. The declarations "
        "were read no further."
    )


def _keeps(operator: str, bound: tuple[int, ...], release: tuple[int, ...], *, final: bool) -> bool:
    kept = len(bound) - 1  # numbers of `~=` that stay
    width = max(len(bound), len(release))
    bound, here = ((*numbers, *[0] * (width - len(numbers))) for numbers in (bound, release))
    same, at_least = here == bound and final, (here, final) >= (bound, True)
    return {
        "==": same,
        "!=": not same,
        ">=": at_least,
        "<=": here <= bound,
        ">": here > bound,
        "<": here < bound,
        "~=": at_least and here[:kept] == bound[:kept],
    }[operator]


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_SPOT = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):([0-5][0-9])"
_WINDOW = re.compile(f"{_SPOT} ?- ?{_SPOT}", re.IGNORECASE)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
PACKAGE_PATTERN = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_IMAGE = re.compile(
    r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9.-]+:[0-9]+)(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}"
)


@cached
def _window(value: Any) -> ChangeWindow:
    value = str(value)
    match = _WINDOW.fullmatch(value)
    begins, ends = [
        DAYS.index(day.lower()) * DAY_MINUTES + int(hour) * 60 + int(minute)
        for day, hour, minute in (match.groups()[:3], match.groups()[3:])
    ] if match else [0, 0]  # fmt: skip
    if begins == ends:
        hint = 'Write days and times, from and to: `"Fri 16:00-Mon 08:00"`.'
        raise wrong("FC1142", f"{shown(value)} is not a part of the week.", hint)
    day = begins // DAY_MINUTES
    if ends < begins and ends // DAY_MINUTES == day:  # almost a week is written as two parts
        tomorrow = DAYS[(day + 1) % len(DAYS)].capitalize()
        meant = f"{value.rpartition('-')[0]}-{tomorrow} {value.rpartition(' ')[2]}"
        hint = f'It would last almost the whole week. Over midnight: `"{meant}"`.'
        raise wrong("FC1142", f"{shown(value)} ends before it begins.", hint)
    return ChangeWindow(begins, ends, value)


def _day(value: Any) -> date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise wrong("FC1141", f"{shown(value)} is not a day.", "Write it as `2026-12-01`.")


def _digest(value: Any) -> str:
    match = _DIGEST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        hint = "Write `sha256:` and at least 12 hex digits, as the plan shows them."
        raise wrong("FC1143", f"{shown(value)} is not a digest.", hint)
    return match[1]


Part = Annotated[
    ChangeWindow,
    PlainValidator(_window),
    PlainSerializer(lambda value: value.text, return_type=str),
    text_schema(_WINDOW.pattern, examples=["Fri 16:00-Mon 08:00"]),
]
Day = Annotated[
    date,
    PlainValidator(_day),
    PlainSerializer(date.isoformat, return_type=str),
    text_schema(_DAY.pattern, examples=["2026-12-01"]),
]
Digest = Annotated[
    str, PlainValidator(_digest), text_schema(_DIGEST.pattern, examples=["sha256:41f0cc9d0a09"])
]

_LARGEST = 10**18
"""Upper bound of the numbers of flags."""
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s\x00]+")
_VERSION = re.compile(VERSION_PATTERN)
_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_PROGRAM = re.compile(r"[A-Za-z0-9_./][^\s:;&|<>$`\"'\\]*")
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s?#]*)?")


def _semver(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong("FC1104", f"{shown(value)} is not a version.", 'Write it as `"1.2.3"`.')
    if not isinstance(value, str):
        raise wrong("FC1103", str(value))
    if _VERSION.fullmatch(value) is None:
        detail = f"{shown(value)} is not three numbers such as `1.2.3`."
        raise wrong("FC1104", detail, version_hint(value))
    return value


def version_hint(value: str) -> str:
    """Return the right form of the version that was probably meant."""
    numbers = re.fullmatch(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?", value)
    if numbers is None:
        return 'Write it as `"1.2.3"`, without suffixes.'
    return f'Write `"{".".join(str(int(group or 0)) for group in numbers.groups())}"`.'


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong("FC1102", f"{shown(value)} is not a name.", "Quote it, if it is meant as one.")
    if not is_id(value):
        near = suggest_id(value)
        because = (
            "holds a hyphen, which joins the parts of a full name"
            if "-" in value
            else "is not lower-case letters, digits and single underscores, a letter first"
        )
        raise wrong("FC1102", f"{shown(value)} {because}.", f"Write `{near}`." if near else "")
    return value


def _secret(value: Any) -> str:
    if isinstance(value, str) and _SECRET.fullmatch(value):
        return value
    detail = "A secret in a file ends up in version control, in plans and in logs."
    hint = "Write where it is kept, `env:NAME` or `file:path`, and replace the exposed secret."
    raise wrong("FC1110", detail, hint)


def _requirement(value: Any) -> str:
    hint = 'Write operators and versions: `required_version: ">=0.1,<2"`.'
    if not isinstance(value, str):
        raise wrong("FC1104", f"{shown(value)} is not a requirement of a version.", hint)
    try:
        conditions(value)
    except ValueError as error:
        raise wrong("FC1104", f"{error}.", hint) from None
    return value


def _listen(value: Any) -> str:
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[2]) <= MAX_PORT:
        hint = 'Write host and port: `"127.0.0.1:8080"`.'
        raise wrong("FC1113", f"{shown(value)} is not an address to listen on.", hint)
    return str(value)


def _url(value: Any) -> str:
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[2] and not 0 < int(match[2][1:]) <= MAX_PORT):
        hint = 'Write scheme, host and port: `"http://10.0.0.5:8000"`.'
        raise wrong("FC1113", f"{shown(value)} is not the URL of a server.", hint)
    if str(value).rstrip("/").endswith("/v1"):
        hint = f"Write `{str(value).rstrip('/').removesuffix('/v1')}`."
        raise wrong("FC1113", f"{shown(value)} ends in `/v1`, which fleetctl adds itself.", hint)
    return str(value).rstrip("/")


def _webhook(value: Any) -> str:
    if isinstance(value, str) and (_SECRET.fullmatch(value) or _URL.fullmatch(value)):
        return value
    hint = (
        "Write `https://host/path`, or where it is kept, `env:NAME` or `file:path`, as it must be "
        "when knowing the address is enough to use it."
    )
    raise wrong("FC1113", f"{shown(value)} is not the URL of a webhook.", hint)


def _flag_value(value: Any) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        detail = f"{shown(value)} is not the value of a flag."
        raise wrong("FC1101", detail, "`true`: a bare switch.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise wrong("FC1101", "The number is too large for a flag.", "Write at most 18 digits.")
    try:
        split_words(str(value))
    except ValueError:
        detail = f"{shown(value)} leaves a quote or a backslash open."
        raise wrong("FC1101", detail, "Close it, or write a backslash before it.") from None
    return value


def _word(value: str) -> str:
    if value.startswith("-") or not value.isprintable():
        detail = f"{shown(value)} could be read as something else on a command line."
        raise wrong("FC1334", detail, "Begin it with no dash, and leave control characters out.")
    return value


def _program(value: str) -> str:
    if _PROGRAM.fullmatch(_word(value)) is None:
        detail = f"{shown(value)} is not the name or path of a single program."
        raise wrong("FC1334", detail, "Name the interpreter alone: `.venv-vllm/bin/python`.")
    return value


def _folder(value: str) -> str:
    if _PROGRAM.fullmatch(_word(value)) is None:
        hint = "Write it absolute, or relative to the user's home there, without quotes."
        raise wrong("FC1334", f"{shown(value)} is not the path of a folder.", hint)
    return value


def _pem_file(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/"):
        detail = f"{shown(value)} is not the absolute path of a file."
        hint = "Write such as `/etc/fleetctl/ca.pem`: who a server is, no file of a checkout says."
        raise wrong("FC1334", detail, hint)
    return value


def _image(value: str) -> str:
    if _IMAGE.fullmatch(value) is None:
        hint = (
            "Write `REGISTRY/NAME@sha256:` and 64 hex digits; a tag may stand before the `@`, and "
            "names no other bytes then. A host that has the image tells its digest:"
        )
        command = "podman image inspect --format '{{.Digest}}' REGISTRY/NAME:TAG"
        detail = f"{shown(value)} is not an image with registry and digest: a tag alone moves."
        raise wrong("FC1143", detail, f"{hint} `{command}`.")
    return value


def _package(value: str) -> str:
    if re.fullmatch(PACKAGE_PATTERN, value) is None:
        hint = "Write it in small letters, digits and single dashes: `fleetctl-acme`."
        raise wrong("FC1102", f"{shown(value)} is not the name of a package.", hint)
    return value


def is_bind_address(value: str) -> bool:
    """Say whether servers may listen on an address: a name or an IP address."""
    return _ADDRESS.fullmatch(value) is not None


def is_loopback(value: str) -> bool:
    """Say whether an address is of loopback, which no other machine reaches."""
    return value in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", value) is not None


def _host_address(value: str) -> str:
    """Return an address that suits an engine; `check_hosts` says whether the host has that."""
    if not is_bind_address(value) and SSH_DESTINATION.fullmatch(value) is None:
        detail = f"{shown(value)} is not a name, an IP address or `user@host:port`."
        raise wrong("FC1334", detail, "Write it as `127.0.0.1`, or as `ssh` takes it.")
    return value


Id = Annotated[str, PlainValidator(_id), text_schema(ID_PATTERN)]
Package = Annotated[
    str, AfterValidator(_package), text_schema(PACKAGE_PATTERN, examples=["fleetctl-acme"])
]
"""Name of a package of Python, in its normal form."""
Semver = Annotated[str, PlainValidator(_semver), text_schema(VERSION_PATTERN, examples=["2.1.0"])]
SecretRef = Annotated[
    str, PlainValidator(_secret), text_schema(_SECRET.pattern, examples=["env:ACME_KEY"])
]
Requirement = Annotated[
    str,
    PlainValidator(_requirement),
    text_schema(rf"\s*{PATTERN}\s*(,\s*{PATTERN}\s*)*", examples=[">=0.1,<2"]),
]
Listen = Annotated[str, PlainValidator(_listen), text_schema(_LISTEN.pattern)]
Url = Annotated[str, PlainValidator(_url), text_schema(_URL.pattern)]
Webhook = Annotated[
    str, PlainValidator(_webhook), text_schema(rf"{_URL.pattern}|{_SECRET.pattern}")
]
FlagValue = Annotated[
    str | int | float | bool,
    PlainValidator(_flag_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


def _without_password(value: str) -> str:
    if re.search(r"://[^/\s]*@", value):
        detail = "The URL holds a user or a password, which ends up in plans, in logs and on pages."
        hint = "Leave both out; the operator's secret (`secret`) opens an admin side."
        raise wrong("FC1110", detail, hint)
    return value


Word = Annotated[str, Field(min_length=1, max_length=4096)]
Argument = Annotated[Word, AfterValidator(_word)]
"""A text that no program takes for a flag."""
Program = Annotated[Word, AfterValidator(_program)]
Folder = Annotated[Word, AfterValidator(_folder)]
PemFile = Annotated[Word, AfterValidator(_pem_file)]
Image = Annotated[Word, AfterValidator(_image)]
HostAddress = Annotated[Word, AfterValidator(_host_address)]
AdminAddress = Annotated[Word, AfterValidator(_without_password)]
