"""What is not YAML, no declaration, or no overlay."""

from tests.broken.case import A, Case, E, F

CASES = [
    # --- not YAML, or no declaration
    Case("open bracket", F, "[10%, 50%, 100%]", "[10%, 50%", "FC1001", f"{F}:27:73", "bracket"),
    Case(
        "variable in braces", F, "[10%, 50%, 100%]", "${env:X}", "FC1001", f"{F}:27:23", "quote a"
    ),
    Case("open quote", A, '"2.1.0"', '"2.1.0', "FC1001", f"{A}:10:18", "quote"),
    Case("colon in a value", A, "tier: premium", "tier: a: b", "FC1001", f"{A}:3:12", "Quote"),
    Case("percent sign first", A, "3000", "%3000", "FC1001", f"{A}:4:18", "Quote"),
    Case("at sign first", A, "3000", "@x", "FC1001", f"{A}:4:18", "Quote"),
    Case("unknown alias", A, "3000", "*fee", "FC1001", f"{A}:4:18", "`*`"),
    Case("wrong indentation", A, "    tier:", "   tier:", "FC1001", f"{A}:4:16", "indentation"),
    Case("control character", A, "3000", "30\x0100", "FC1001", f"{A}:4:20", "Delete"),
    Case("tab", A, "    tier:", "\ttier:", "FC1007", f"{A}:3:1", "two spaces"),
    Case("key twice", A, "monthly_fee: 3000", "tier: standard", "FC1002", f"{A}:4:5", "rename"),
    Case("client twice", "x.yaml", "", "clients:\n  acme: {}\n", "FC1002", "x.yaml:2:3", "one"),
    Case("fleet twice", "x.yaml", "", "fleet: other\n", "FC1002", "x.yaml:1:1", "Delete one"),
    Case("section as text", "x.yaml", "", "tiers: gold\n", "FC1002", "x.yaml:1:1", "two files"),
    Case("empty file", A, "", "", "FC1005", f"{A}:1:1", "Delete the file"),
    Case("only comments", A, "", "# nothing\n", "FC1005", f"{A}:1:1", "section"),
    Case("section without content", A, "", "clients:\n", "FC1005", f"{A}:1:1", "delete its file"),
    Case("list at the top", A, "", "- clients\n", "FC1006", f"{A}:1:1", "clients"),
    Case("text at the top", A, "", "clients\n", "FC1006", f"{A}:1:1", "section"),
    Case("number as a key", A, "support:", "7:", "FC1008", f"{A}:7:7", '`"7"`'),
    Case("truth value as a key", A, "support:", "true:", "FC1008", f"{A}:7:7", "Quote it"),
    Case("list as a key", A, "support:", "[a, b]:", "FC1008", f"{A}:7:7", "single word"),
    Case("not UTF-8", A, "3000", "30\udcff00", "FC1009", f"{A}:4:20", "UTF-8"),
    Case("two documents", A, "  acme:", "---\n  acme:", "FC1012", f"{A}:2:1", "`---`"),
    Case("far too deep", A, "3000", "[" * 500 + "]" * 500, "FC1013", f"{A}:1:1", "60 levels"),
    Case("own tag", A, "3000", "!money 3000", "FC1014", f"{A}:4:18", "Delete the tag"),
    Case("tag with no match", A, "3000", "!!int abc", "FC1001", f"{A}:4:18", "not a int"),
    Case("directive", A, "clients:", "%YAML 1.1\n---\nclients:", "FC1014", f"{A}:1:1", "no use"),
    # --- placeholders and overlays
    Case("unset variable", A, "3000", "${var.fee}", "FC1020", f"{A}:4:18", "--var fee=VALUE"),
    Case("unset environment", A, "3000", "${env:FLEETCTL_NO}", "FC1021", f"{A}:4:18", "export"),
    Case("odd placeholder", A, "3000", "${fee}", "FC1022", f"{A}:4:18", "$${"),
    Case("open placeholder", A, "3000", "${var.fee", "FC1022", f"{A}:4:18", "$${"),
    Case("vain deletion", E, "", "tiers: {premum: null}\n", "FC1023", f"{E}:1:9", "`premium`"),
    Case(
        "overlay with a typo",
        E,
        "",
        "bases: {tiny: {dtyp: auto}}\n",
        "FC1003",
        f"{E}:1:16",
        "`dtype`",
    ),
    Case(
        "overlay with bad size",
        E,
        "",
        "bases: {tiny: {kv_cache: 1}}\n",
        "FC1106",
        f"{E}:1:26",
        "GiB",
    ),
]
