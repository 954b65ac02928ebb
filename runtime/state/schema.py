"""The tables of a fleet's home in PostgreSQL, as migrations that are only ever added to.

Entries are never changed and never removed: triggers refuse that, with an error. A rule would do
nothing without a word.
"""

from typing import Final

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
