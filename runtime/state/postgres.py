"""Transactions on the PostgreSQL database of a fleet, behind PgBouncer in transaction mode too.

Nothing is kept in a session: settings hold for a transaction, and no statement is prepared. A
transaction whose connection broke is done again, so its work first looks for what it may have done.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fleet.errors import FleetError, require_known
from runtime.secrets import read_secret

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

Found = TypeVar("Found")

_DEFAULTS: Final[Mapping[str, object]] = {
    "application_name": "fleetctl",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of a connection that the URI does not give. A host that is cut off is noticed."""
_IDLE: "Final[dict[str, list[Connection[Any]]]]" = {}
"""Connections that wait, by URI: the objects of a loop come and go."""
_SETTINGS: Final = """
select set_config('lock_timeout', '8s', true), set_config('statement_timeout', '10s', true),
  set_config('idle_in_transaction_session_timeout', '5s', true),
  set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on'
    else current_setting('synchronous_commit') end, true)
"""
"""A lock is waited for longer than a transaction whose client is gone may be idle, so that the
outcome of the latter is known."""
_TRIES: Final = 3
"""Upper bound of the connections for a transaction."""
_GONE: Final = ("08", "57P", "40001", "40P01")
"""Beginnings of SQLSTATEs after which the transaction is done again: no connection, the server
shuts down, the server rolled it back for another."""
_DENIED: Final = ("42501", "25006", "P0001")
"""SQLSTATEs: no right, a server or user that only reads, a trigger that refuses."""


class Database:
    """The database that a reference names."""

    def __init__(self, root: Path, reference: str) -> None:
        """Prepare; nothing is connected. `reference`: `env:NAME` or `file:PATH` below `root`."""
        self._root, self.reference = root, reference
        self._version = 0

    def read(self, work: "Callable[[Cursor[Any]], Found]", otherwise: Found) -> Found:
        """Return the result of a transaction; `otherwise` where the database has no tables yet.

        Raises:
            FleetError: FC5107, the database does not answer; FC5007, a later fleetctl made its
                tables.
        """
        return self._run(lambda cursor: work(cursor) if self._version else otherwise)

    def write(self, work: "Callable[[Cursor[Any]], Found]") -> Found:
        """Return the result of a transaction, durable; missing tables are made first.

        `work` is called again where the connection broke, maybe after its transaction was done.

        Raises:
            FleetError: as `read`; FC5106, the database refuses to write.
        """

        def written(cursor: "Cursor[Any]") -> Found:
            if self._version != len(MIGRATIONS):
                self._migrate(cursor)
            return work(cursor)

        found = self._run(written)
        self._version = len(MIGRATIONS)
        return found

    def _run(self, work: "Callable[[Cursor[Any]], Found]") -> Found:
        driver = self._driver()
        for left in reversed(range(_TRIES)):
            uri = read_secret(self._root, self.reference) or "?"
            idle = _IDLE.setdefault(uri, [])
            connection = self._taken(idle) or self._connect(uri)
            try:
                with connection.transaction():
                    cursor = connection.cursor()
                    self._begin(cursor)
                    found = work(cursor)
            except driver.Error as error:
                broke = isinstance(error, driver.OperationalError) and not error.sqlstate
                again = connection.closed or broke or (error.sqlstate or "").startswith(_GONE)
                connection.close()
                while again and idle:  # the server has ended these, too
                    idle.pop().close()
                if not (again and left):
                    raise self._told(error) from None
            except BaseException:
                connection.close()
                raise
            else:
                idle.append(connection)
                return found
        raise AssertionError

    def _begin(self, cursor: "Cursor[Any]") -> None:
        cursor.execute(_SETTINGS)
        if not self._version:  # also once another process has made the tables
            self._version = self._found(cursor)

    def _found(self, cursor: "Cursor[Any]") -> int:
        """Return the version of the tables; 0: there are none."""
        row = cursor.execute(_VERSION).fetchone() if cursor.execute(_TABLES).fetchone() else None
        version = row[0] if row else 0
        require_known(version, len(MIGRATIONS), str(self))
        return int(version)

    def _migrate(self, cursor: "Cursor[Any]") -> None:
        """Bring the tables to this release's version, unless another process has just done so."""
        cursor.execute("select pg_advisory_xact_lock(7021531)")
        newest = self._found(cursor)
        for number, statements in enumerate(MIGRATIONS[newest:], newest + 1):
            cursor.execute(statements)
            cursor.execute("insert into fleetctl.migration values (%s)", (number,))

    def _taken(self, idle: "list[Connection[Any]]") -> "Connection[Any] | None":
        with suppress(IndexError):
            return idle.pop()
        return None

    def _connect(self, uri: str) -> "Connection[Any]":
        psycopg = self._driver()
        try:
            given = psycopg.conninfo.conninfo_to_dict(uri)
        except psycopg.Error:  # whose text may hold the password
            fault = "is empty or not readable here" if uri == "?" else "is no URI of a database"
            detail = f"`{self.reference}` {fault}, and without the ledger nothing is planned."
            hint = "Give it as `postgresql://USER:PASSWORD@HOST:5432/DATABASE`, all of one line."
            raise FleetError.of(
                "FC5144", "The home's URI cannot be read", detail, hint=hint
            ) from None
        several = "," in f"{given.get('host', '')}{given.get('hostaddr', '')}"
        more = {"target_session_attrs": "read-write"} if several else {}
        options: dict[str, Any] = {**_DEFAULTS, **more, **given}
        try:
            found: Connection[Any] = psycopg.connect(
                "", autocommit=True, prepare_threshold=None, **options
            )
        except psycopg.Error as error:
            raise self._away(str(error), str(given.get("password") or "")) from None
        found.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return found

    def _driver(self) -> ModuleType:
        try:
            import psycopg  # noqa: PLC0415 (an extra, and 60 ms)
        except ImportError:
            detail = f"The home is {self}, and no driver for it is installed."
            hint = "Install it where fleetctl is installed:"
            command = "pip install 'psycopg[binary]>=3.2'"
            raise FleetError.of(
                "FC5140", "The home's driver is missing", detail, hint=hint, command=command
            ) from None
        return psycopg

    def _told(self, error: Any) -> FleetError:
        """Return the error of the database's message, without the values that details may hold."""
        state, said = error.sqlstate or "", error.diag.message_primary or str(error)
        if not state.startswith(_DENIED):
            return self._away(said)
        detail = f"{self} says: {_sentence(said)}. Nothing is done that is not written down first."
        hint = "Plans, `status` and `drift` work with rights to read; an apply needs those of"
        return FleetError.of(
            "FC5106",
            "The ledger cannot be written",
            f"{detail[:1].upper()}{detail[1:]}",
            hint=f"{hint} a user who may write: docs/operators.md has the GRANTs.",
        )

    def _away(self, said: str, password: str = "") -> FleetError:
        text = said.replace(password, "*") if password else said
        return FleetError.of(
            "FC5107",
            "The ledger's home does not answer",
            f"{str(self)[:1].upper()}{str(self)[1:]}: {_sentence(text)}.",
            hint="See to the database, the network and the credentials. A rollback works "
            "meanwhile, and is written down later.",
        )

    def __str__(self) -> str:
        """Return the database as people name databases."""
        return f"the database of `{self.reference}`"


_TABLES: Final = """
select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'fleetctl' and c.relname = 'migration'
"""
"""Not `to_regclass`, which may miss tables that another transaction has just made."""
_VERSION: Final = "select coalesce(max(version), 0) from fleetctl.migration"


def _sentence(said: str) -> str:
    """Return the first line of a message with a text, without its full stop."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[0] if lines else "no reason given").rstrip(".")


MIGRATIONS: Final = (
    """
create schema if not exists fleetctl;
create table fleetctl.migration (
  version integer primary key,
  applied timestamptz not null default clock_timestamp());
create table fleetctl.entry (
  fleet text not null,
  seq bigint not null,
  id text,
  line bytea not null,
  primary key (fleet, seq),
  unique (fleet, id));
create table fleetctl.lease (
  fleet text primary key,
  token bigint not null default 0,
  holder text not null default '',
  expires timestamptz not null default '-infinity',
  run text not null default '',
  machine text not null default '',
  pid integer not null default 0,
  started text not null default '');
create table fleetctl.document (
  fleet text not null,
  name text not null,
  version bigint not null,
  body bytea not null,
  primary key (fleet, name));
create function fleetctl.refuse() returns trigger language plpgsql as $$
begin
  raise exception 'entries of a ledger are never changed or removed';
end $$;
create trigger entry_is_kept before update or delete or truncate on fleetctl.entry
  for each statement execute function fleetctl.refuse();
create trigger migration_is_kept before update or delete or truncate on fleetctl.migration
  for each statement execute function fleetctl.refuse();
""",
)
"""Statements by version, from 1. A later version changes no meaning that a release reads."""
