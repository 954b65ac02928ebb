"""Prints how often healthy versions are promoted by themselves: as forecast, and as played.

`make bench-forecasts`. A test holds the forecast of plans against the played rollouts, which are
written to a file; `--curves` prints forecasts alone, which take seconds.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fleet.gates.power import USUAL_EFFECT, UsualRate
from fleet.gates.sequential import confidence
from fleet.rollouts.stage_traffic import LiveStages, simulate
from tests.fleet.gates.request_traffic import CLOSES, OPENS, QUIET, Client, Harm
from tests.fleet.gates.whole_rollouts import BAKE, GATES, MAX_BAKE, SHARES, play

PLAYED = Path(__file__).parents[1] / "fleet" / "rollouts" / "played.json"
LARGER = (0.25, 0.5)
BUSY_HOURS = CLOSES - OPENS + QUIET * (24 - CLOSES + OPENS)
"""Office hours whose traffic a working day has."""
JUDGED = GATES[:2]
"""The gates on errors and on formats: those on times hardly ever decide."""


@dataclass(frozen=True)
class Foretold:
    """A healthy rollout that is foretold and played."""

    client: Client
    shares: tuple[float, ...] = SHARES
    max_bake: int = MAX_BAKE
    """Unit: hours."""


SETTINGS = {
    "5 requests/min": Foretold(Client()),
    "3 requests/min": Foretold(Client(rpm=3)),
    "2 requests/min": Foretold(Client(rpm=2)),
    "2 requests/min, from 25 %": Foretold(Client(rpm=2), LARGER),
    "1 request/min": Foretold(Client(rpm=1)),
    "1 request/min, from 25 %": Foretold(Client(rpm=1), LARGER),
    "1 request/min, as scaffolded": Foretold(Client(rpm=1), LARGER, 96),
    "60 named users": Foretold(Client(users=60)),
    "25 named users": Foretold(Client(users=25)),
    "25 named users, from 25 %": Foretold(Client(users=25), LARGER),
    "10 named users": Foretold(Client(users=10)),
    "10 named users, split by session": Foretold(Client(users=10, by_session=True)),
    "3 % errors as usual": Foretold(Client(errors=0.03)),
}


def promoted(name: str, seed: int) -> bool:
    """Play a rollout of a setting; say whether it was promoted."""
    setting = SETTINGS[name]
    rng = np.random.default_rng((4, seed))
    end = play(rng, setting.client, Harm(), setting.shares, JUDGED, setting.max_bake)
    return end.how == "promoted"


def setting_of(foretold: Foretold) -> LiveStages:
    """Return what a plan knows of a client: its traffic on a busy day, users and usual rates."""
    client = foretold.client
    weights = [round(100 * share) for share in foretold.shares]
    rates = {"errors": client.errors, "format": client.format}
    return LiveStages(
        tuple((gate, UsualRate(rates[gate.name], USUAL_EFFECT)) for gate in JUDGED),
        tuple((weight, confidence(weight, weights)) for weight in weights),
        client.rpm * 60 * BUSY_HOURS / 24,
        BAKE,
        foretold.max_bake,
        0 if client.by_session else client.users,
    )


def curves() -> None:
    """Print the forecast by traffic, first shares and longest bake."""
    print("healthy versions promoted by themselves, in %, of many users; by stages and `max_bake`")
    columns = [(shares, days) for shares in (SHARES, LARGER, (0.5,)) for days in (2, 4, 7)]
    names = ("/".join(f"{100 * share:.0f}" for share in shares) for shares, _ in columns)
    heads = [f"{name}, {days} d" for name, (_, days) in zip(names, columns, strict=True)]
    print(f"{'requests/min':<14}" + "".join(f"{head:>12}" for head in heads))
    for rpm in (0.5, 1, 2, 3, 5, 10, 30):
        client = Client(rpm=rpm)
        cells = (
            simulate(setting_of(Foretold(client, shares, 24 * days))).chance()
            for shares, days in columns
        )
        print(f"{rpm:<14g}" + "".join(f"{100 * cell:>12.0f}" for cell in cells))


def main() -> None:
    """Print the forecasts, then play all settings and write the percentages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=150)
    parser.add_argument("--curves", action="store_true", help="forecasts only")
    given = parser.parse_args()
    curves()
    if given.curves:
        return
    played: dict[str, float] = {}
    with ProcessPoolExecutor() as workers:
        for name, setting in SETTINGS.items():
            ends = list(workers.map(partial(promoted, name), range(given.replications)))
            played[name] = round(100 * sum(ends) / len(ends), 1)
            foretold = 100 * simulate(setting_of(setting)).chance()
            print(f"{name:<36}{played[name]:>6.1f} % of {len(ends)} promoted, "
                  f"{foretold:.0f} % forecast", flush=True)  # fmt: skip
            PLAYED.write_text(json.dumps(played, indent=1) + "\n")


if __name__ == "__main__":
    main()
