"""The faults of the scorecard, in the order in which they are played.

Faults that end no server come first: a server takes half a minute to start.
"""

from tests.faults import actions, control, servers, versions
from tests.faults.actions import APPLY, RECONCILE
from tests.faults.play import Fault

RESTORES = "checks it out again"
BOTH = RECONCILE, APPLY
MISSING = "ended|missing"
BYTES = "other bytes|damaged"
FAULTS = (
    Fault("unloaded behind our back", servers.unloaded, "missing|unloaded", harmless=True),
    Fault(
        "loaded from another path", servers.other_path, "other bytes|another path|path", (APPLY,)
    ),
    Fault("right digest under a wrong path", servers.wrong_path, "other bytes|path", (APPLY,)),
    Fault("copy overwritten, resident", servers.overwritten_resident, BYTES, BOTH),
    Fault("copy overwritten, evicted", servers.overwritten_evicted, BYTES, BOTH),
    Fault("copy overwritten, evicted, read", servers.overwritten_and_read, BYTES, BOTH),
    Fault(
        "copy deleted, resident", servers.deleted_resident, "missing|gone|not there|damaged", BOTH
    ),
    Fault("rogue adapter", servers.rogue, "not loaded by fleetctl", person="unloads it"),
    Fault(
        "version with NaN",
        versions.not_a_number,
        "NaN|not a number|finite",
        (APPLY,),
        person=RESTORES,
    ),
    Fault("version of zeros", versions.zeros, "base|zero|smoke", (APPLY,), person=RESTORES),
    Fault("rank above the base's limit", versions.rank, "rank", (APPLY,), person=RESTORES),
    Fault(
        "version of another base",
        versions.wrong_base,
        "shape|base|dimension|fit",
        (APPLY,),
        person=RESTORES,
    ),
    Fault(
        "worse version, golden gate",
        versions.golden_gate,
        "failed|rejected|worse|accuracy",
        (APPLY,),
        fake=False,
        person=RESTORES,
    ),
    Fault(
        "worse version, no gate",
        versions.no_gate,
        r"2\.4\.0 10 %",
        (APPLY,),
        person="rollback; " + RESTORES,
    ),
    Fault("lock altered", control.altered_lock, "digest|bytes|immutable", BOTH, person=RESTORES),
    Fault("lock torn", control.torn_lock, "lock", person=RESTORES),
    Fault("lock missing", control.missing_lock, "lock", person=RESTORES),
    Fault("golden set broken", control.golden_broken, r"support\.jsonl", person=RESTORES),
    Fault("key file gone", control.key_gone, "key", person="puts it back"),
    Fault("routes edited", control.routes_edited, "routing table|changed by hand|torn", BOTH),
    Fault("routes forged", control.routes_forged, "changed by hand|route", BOTH),
    Fault("routes of an older table", control.routes_older, "route|table", BOTH),
    Fault("gateway killed", actions.gateway_killed, "gateway.main"),
    Fault(
        "disk full under the gateway",
        control.disk_full,
        "gateway.main",
        person="makes room",
    ),
    Fault("ledger torn", control.torn_ledger, "torn|ledger", harmless=True),
    Fault("ledger altered", control.altered_ledger, "ledger", person="puts the line back"),
    Fault(
        "clock of another machine ahead",
        control.clock,
        "clock",
        (APPLY,),
        person="release, rollback",
    ),
    Fault(
        "two applies at once",
        control.two_applies,
        "locked|changed meanwhile|stale|since",
        (APPLY,),
        harmless=True,
        person="rollback",
    ),
    Fault(
        "holder of an expired lease",
        control.expired_holder,
        r"lease|\"exit_code\":5",
        (APPLY,),
        person="rollback",
    ),
    Fault(
        "apply killed ten times",
        control.killed_apply,
        "unfinished|due|change|2.2.0",
        (APPLY,),
        person="rollback",
    ),
    Fault("server slow", servers.slow, "slow", harmless=True),
    Fault("server frozen", servers.frozen, "does not answer|no answer|hung|unknown", find_s=60),
    Fault("replica dead", servers.replica_dead, MISSING, servers=2),
    Fault("engine killed", servers.engine_killed, MISSING),
    Fault("engine crashed (SIGABRT)", servers.engine_crashed, MISSING),
    Fault("copy deleted, evicted", servers.deleted_evicted, "ended|missing|gone|damaged", BOTH),
    Fault("restarted by hand, our flags", servers.by_hand, "missing|ended|restarted|adopt", BOTH),
    Fault(
        "restarted by hand, other flags",
        servers.by_hand_otherwise,
        "ended|missing|port|other flags",
        BOTH,
        person="ends it",
    ),
    Fault("reboot", servers.reboot, MISSING, (RECONCILE, ("gateway", "start"))),
    Fault(
        "state folder lost",
        control.state_lost,
        "adopt|ledger|lost",
        (("adopt",), RECONCILE, APPLY),
        person="puts the keys back",
    ),
)
