"""Reads the configuration of a LiteLLM proxy: which names it gives to the adapters of servers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fleet.errors import FleetError

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
