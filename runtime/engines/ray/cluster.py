"""Asks a Ray cluster for nodes and actors, and runs jobs on the cluster, over HTTP."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from fleet.errors import EngineError, EngineRejectedError, EngineTimedOutError, NewerFormatError
from runtime.engines.launch_records import COPY, LaunchRecord, parse_record
from runtime.engines.ray.programs import RESULT, entrypoint
from runtime.engines.recognition import FleetMark
from runtime.json_client import JsonClient
from runtime.secrets import read_secret
from runtime.trust import authorization

_MOST: Final = 10_000
"""Upper bound of the actors in an answer, which is also Ray's own."""
_JOB_S: Final = 150.0
"""Upper bound of a job: the wait for a node's room, and a stop that lets requests finish."""
_JOB_POLL_S: Final = 0.3
_GATHER_S: Final = 0.01
"""Time in which looks of several hosts at a cluster are joined into a single look."""
_LOG_LINES: Final = 8
_ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, slots=True)
class RayActor:
    """A named actor of a fleet that is not dead, by Ray."""

    name: str
    state: str
    """`ALIVE`; else the actor waits for its node or for a start."""
    life: str
    """Changes with every start of the actor by Ray: the adapters that were loaded are gone then."""
    restarts: int
    record: LaunchRecord | None
    """None: the actor carries no record that can be read."""
    fleet: FleetMark


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The nodes and actors of a cluster."""

    nodes: Mapping[str, str]
    """State by address; of several lives of a node the newest counts."""
    actors: Mapping[str, RayActor]
    """Actors of a namespace by name."""

    def is_up(self, node: str) -> bool:
        """Say whether Ray hears of a node."""
        return self.nodes.get(node) == "ALIVE"


@dataclass(eq=False)
class RayCluster:
    """A cluster, as the operator of a fleet reaches its head."""

    url: str
    namespace: str
    token: str
    """Reference of the token; empty: the cluster is declared as open."""
    root: Path
    """The project, to which a file of the token is relative."""
    _http: JsonClient | None = field(default=None, init=False)
    _pending: asyncio.Future[ClusterView] | None = field(default=None, init=False)
    _is_guarded: bool = field(default=False, init=False)

    async def look(self) -> ClusterView:
        """Return nodes and actors, by two requests; callers of the same moment share them.

        Raises:
            EngineError: the head is not reached, or the token is refused or not readable.
        """
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._pending)

    async def run(
        self, do: str, tasks: Sequence[Mapping[str, Any]], limit_s: float = _JOB_S
    ) -> list[dict[str, Any]]:
        """Run a job with tasks of a kind; return their results, in their order.

        Raises:
            EngineError: FC4122, the cluster is open to all; FC4123, the job failed; as `look`.
        """
        await self.require_token()
        job = f"fleetctl-{do}-{uuid4().hex[:12]}"
        body = {
            "entrypoint": entrypoint(do, self.namespace, tasks),
            "submission_id": job,
            "metadata": {"fleetctl": self.namespace},
        }
        await self._post("/api/jobs/", body)
        clock = asyncio.get_running_loop().time
        ends = clock() + limit_s
        while (status := (await self._get(f"/api/jobs/{job}"))["status"]) not in _ENDED:
            if clock() > ends:
                raise _failed(self.url, job, f"it is `{status}` after {limit_s:.0f} s")
            await asyncio.sleep(_JOB_POLL_S)
        logs = str((await self._get(f"/api/jobs/{job}/logs"))["logs"])
        last = next((line for line in reversed(logs.splitlines()) if line.startswith(RESULT)), "")
        if status != "SUCCEEDED" or not last:
            lines = "\n".join(logs.splitlines()[-_LOG_LINES:]) or "It wrote nothing."
            raise _failed(self.url, job, f"it ended as `{status}`. The end of its log:\n\n{lines}")
        found: list[dict[str, Any]] = json.loads(last.removeprefix(RESULT))
        return found

    async def require_token(self) -> None:
        """Refuse a cluster that takes jobs without a token, unless declared as `insecure`.

        Raises:
            EngineRejectedError: FC4122; as `look` otherwise.
        """
        if not self.token or self._is_guarded:
            return
        async with JsonClient(self.url, peer=self._peer) as anybody:
            try:
                await anybody.get("/api/jobs/")
            except EngineRejectedError as error:
                if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                    raise
                self._is_guarded = True
                return
        raise EngineRejectedError.of(
            "FC4122",
            "A Ray cluster is open to everybody",
            f"The head of the Ray cluster at {self.url} lists its jobs without a token: everybody "
            "who reaches it can run programs on its nodes. Nothing was started.",
            hint="Start Ray on every node with `RAY_AUTH_MODE=token`. Where only trusted people "
            "reach it, declare `insecure: true` in place of `token`.",
        )

    async def close(self) -> None:
        """Release connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    @property
    def _peer(self) -> str:
        return f"the head of the Ray cluster at {self.url}"

    async def _look(self) -> ClusterView:
        await asyncio.sleep(_GATHER_S)
        self._pending = None
        asked = [
            ("detail", 1), ("limit", _MOST),
            ("filter_keys", "ray_namespace"), ("filter_keys", "state"),
            ("filter_predicates", "="), ("filter_predicates", "!="),
            ("filter_values", self.namespace), ("filter_values", "DEAD"),
        ]  # fmt: skip
        nodes, actors = await asyncio.gather(
            self._get(f"/api/v0/nodes?detail=1&limit={_MOST}"),
            self._get(f"/api/v0/actors?{urlencode(asked)}"),
        )
        try:
            rows = nodes["data"]["result"]["result"]
            rows.sort(key=lambda row: row["start_time_ms"] or 0)
            states = {str(row["node_ip"]): str(row["state"]) for row in rows}
            found = [_actor(row) for row in actors["data"]["result"]["result"]]
        except (KeyError, TypeError, ValueError):
            detail = f"{self._peer} lists nodes or actors in a form that is not known here."
            raise EngineError.of("FC4004", "Answer not understood", detail) from None
        return ClusterView(states, {actor.name: actor for actor in found})

    async def _get(self, path: str) -> Any:
        http = self._client()
        try:
            return await http.get(path, timeout_s=20)
        except EngineRejectedError as error:
            raise self._explained(error) from None

    async def _post(self, path: str, body: Any) -> Any:
        http = self._client()
        try:
            return await http.post(path, body, timeout_s=30)
        except EngineRejectedError as error:
            raise self._explained(error) from None

    def _explained(self, error: EngineRejectedError) -> EngineError:
        if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return error
        given = f"the token of `{self.token}`" if self.token else "requests without a token"
        return self._without_token(f"{self._peer} refuses {given} ({error.status})")

    def _client(self) -> JsonClient:
        if self._http is None:
            headers = {}
            if self.token:
                secret = read_secret(self.root, self.token)
                if secret is None:
                    raise self._without_token(f"`{self.token}` is empty or not readable here")
                headers = authorization(self.url, self.token, secret)
            self._http = JsonClient(self.url, peer=self._peer, headers=headers)
        return self._http

    def _without_token(self, why: str) -> EngineError:
        return EngineError.of(
            "FC4121",
            "The token of a Ray cluster does not open it",
            f"{why[0].upper()}{why[1:]}. Nothing is known of its servers, and they go on.",
            hint="Put the token there that the cluster was started with (`RAY_AUTH_TOKEN`).",
        )


_CLUSTERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], RayCluster]] = (
    WeakKeyDictionary()
)


def cluster_of(url: str, namespace: str, token: str, root: Path) -> RayCluster:
    """Return the cluster at a URL, which all hosts of a fleet on the cluster share in a loop."""
    shared = _CLUSTERS.setdefault(asyncio.get_running_loop(), {})
    return shared.setdefault((url, namespace), RayCluster(url, namespace, token, root))


def _actor(row: Mapping[str, Any]) -> RayActor:
    variables: dict[str, str] = {}
    with suppress(ValueError, AttributeError, KeyError, TypeError):
        variables = {**json.loads(row["serialized_runtime_env"] or "{}")["env_vars"]}
    name, record = str(row["name"]), None
    with suppress(ValidationError, NewerFormatError):
        record = parse_record(variables.get(COPY, ""), f"{COPY} of actor {name}")
    restarts = int(row["num_restarts"] or 0)
    return RayActor(
        name,
        str(row["state"]),
        f"{row['actor_id']} {restarts}",
        restarts,
        record if record and record.name == name else None,
        FleetMark.among(variables),
    )


def _failed(url: str, job: str, why: str) -> EngineTimedOutError:
    return EngineTimedOutError.of(
        "FC4123",
        "A job on a Ray cluster failed",
        f"Job `{job}` at {url}: {why.rstrip('.')}.",
        hint="Once the cluster is well, run the command again: it goes on from what is there.",
        command="fleetctl status",
    )
