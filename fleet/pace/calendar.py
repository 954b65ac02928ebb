"""Change windows: parts of the week in which no version gets more traffic."""

from datetime import UTC, datetime, timedelta

from fleet.conditions import ChangeWindow, Rollout

WEEK = 7 * 24 * 60
"""In minutes."""


def closed_until(rollout: Rollout, now: datetime) -> datetime | None:
    """Return when the rollout may go on again; None: now.

    Where the clocks of the time zone change in the course of the year, a window holds by every
    offset that the year has: at its edges it is up to an hour longer than written.
    """
    until = now.astimezone(UTC)
    for _ in range(2 * len(rollout.no_promote) * len(rollout.offsets) + 1):
        ends = [
            end
            for window in rollout.no_promote
            for offset in rollout.offsets
            if (end := _end(window, offset, until)) is not None
        ]
        if not ends or max(ends) - now > timedelta(minutes=WEEK):
            break
        until = max(ends)
    return until if until > now else None


def _end(window: ChangeWindow, offset: int, moment: datetime) -> datetime | None:
    """Return when the window ends that `moment` lies in, UTC; None: it lies in none."""
    local = moment + timedelta(minutes=offset)
    place = local.weekday() * 24 * 60 + local.hour * 60 + local.minute
    length = (window.ends - window.begins) % WEEK
    since = (place - window.begins) % WEEK
    if since >= length:
        return None
    whole = moment.replace(second=0, microsecond=0)
    return whole + timedelta(minutes=length - since)
