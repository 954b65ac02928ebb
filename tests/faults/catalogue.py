"""The faults of the scorecard, in the order in which they are played.

Faults that end no server come first: a server takes half a minute to start.
"""

from tests.faults import actions, control, servers, versions
from tests.faults.actions import APPLY, RECONCILE
from tests.faults.play import Fault

RESTORES = "checks it out again"
BOTH = RECONCILE, APPLY
ENDED = r"servers? ha(s|ve) ended|adapters? (is|are) missing"
OVERWRITTEN = (
    r"copy (of corvid-dates\S*|that servers load from) has other bytes|may answer other bytes"
)
DELETED = r"copy of corvid-dates\S* is gone|may answer other bytes"
FAULTS = (
    Fault("unloaded behind our back", servers.unloaded, "unloaded by others", harmless=True),
    Fault(
        "loaded from another path",
        servers.other_path,
        r"other bytes answer under this name, from \S+/models/adapters/|loaded from other bytes",
        (APPLY,),
    ),
    Fault(
        "right digest under a wrong path",
        servers.wrong_path,
        # A vLLM with the plug-in refuses to load such a folder, so nothing is loaded any more.
        r"other bytes answer under this name, from \S+/elsewhere/|loaded from other bytes"
        r"|unloaded by others",
        BOTH,
    ),
    Fault("copy overwritten, resident", servers.overwritten_resident, OVERWRITTEN, BOTH),
    Fault("copy overwritten, evicted", servers.overwritten_evicted, OVERWRITTEN, BOTH),
    Fault("copy overwritten, evicted, read", servers.overwritten_and_read, OVERWRITTEN, BOTH),
    Fault("copy deleted, resident", servers.deleted_resident, DELETED, BOTH),
    Fault(
        "rogue adapter",
        servers.rogue,
        r"somebody-else\S*: not loaded by fleetctl",
        person="unloads it",
    ),
    Fault(
        "version with NaN",
        versions.not_a_number,
        "FC3132",
        (APPLY,),
        person=RESTORES,
    ),
    Fault("version of zeros", versions.zeros, "FC3133", (APPLY,), person=RESTORES),
    Fault("rank above the base's limit", versions.rank, "FC1211|FC2005", (APPLY,), person=RESTORES),
    Fault(
        "version of another base",
        versions.wrong_base,
        "FC3128",
        (APPLY,),
        person=RESTORES,
    ),
    Fault(
        "worse version, golden gate",
        versions.golden_gate,
        r"FAIL answers of \S+2\.4\.0|rejected: digest",
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
    Fault("lock altered", control.altered_lock, "FC3002", BOTH, person=RESTORES),
    Fault("lock torn", control.torn_lock, "FC1217", person=RESTORES),
    Fault("lock missing", control.missing_lock, "FC1210", person=RESTORES),
    Fault("golden set broken", control.golden_broken, "FC1302", person=RESTORES),
    Fault(
        "key file gone",
        control.key_gone,
        "key/corvid/prod: its secret cannot be read",
        person="puts it back",
    ),
    Fault(
        "routes edited",
        control.routes_edited,
        r"routes\.json` is torn or was changed by hand",
        BOTH,
    ),
    Fault(
        "routes forged",
        control.routes_forged,
        "corvid-dates: the route was changed by hand|live route is not the one that was applied",
        BOTH,
    ),
    Fault(
        "routes of an older table",
        control.routes_older,
        "acme-support: the route was changed by hand|live route is not the one that was applied",
        BOTH,
        person=RESTORES,
    ),
    Fault("gateway killed", actions.gateway_killed, "gateway/main: is not running"),
    Fault(
        "disk full under the gateway",
        control.disk_full,
        "gateway/main: refuses every client",
        person="makes room",
    ),
    Fault("ledger torn", control.torn_ledger, r"ledger\.jsonl", harmless=True),
    Fault("ledger altered", control.altered_ledger, "FC5102", person="puts the line back"),
    Fault(
        "clock of another machine ahead",
        control.clock,
        "FC5108",
        (APPLY,),
        person="release, rollback",
    ),
    Fault(
        "two applies at once",
        control.two_applies,
        "another run|changed meanwhile|the plan is stale",
        (APPLY,),
        harmless=True,
        person="rollback",
    ),
    Fault(
        "holder of an expired lease",
        control.expired_holder,
        "FC5105",
        (APPLY,),
        person="rollback",
    ),
    Fault(
        "apply killed ten times",
        control.killed_apply,
        "unfinished|an earlier run had",
        (APPLY,),
        person="rollback",
    ),
    Fault("server slow", servers.slow, "slow", harmless=True),
    Fault("server frozen", servers.frozen, r"server/tiny-\S+: does not answer", find_s=60),
    Fault("replica dead", servers.replica_dead, ENDED, servers=2),
    Fault("engine killed", servers.engine_killed, ENDED),
    Fault("engine crashed (SIGABRT)", servers.engine_crashed, ENDED),
    Fault("copy deleted, evicted", servers.deleted_evicted, f"{DELETED}|{ENDED}", BOTH),
    Fault("restarted by hand, our flags", servers.by_hand, "missing|ended|restarted|adopt", BOTH),
    Fault(
        "restarted by hand, other flags",
        servers.by_hand_otherwise,
        "ended|missing|port|other flags",
        BOTH,
        person="ends it",
    ),
    Fault("reboot", servers.reboot, ENDED, (RECONCILE, ("gateway", "start"))),
    Fault(
        "state folder lost",
        control.state_lost,
        "adopt|ledger|lost",
        (("adopt",), RECONCILE, APPLY),
        person="puts the keys back",
    ),
)
