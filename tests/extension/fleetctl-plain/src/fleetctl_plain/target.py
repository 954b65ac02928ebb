"""A compile target: the servers of every version, a line each."""

from plans.compile.launch import CompileFacts


def compiled(facts: CompileFacts) -> dict[str, str]:
    """Return a file with alias, version, share and servers."""
    urls = facts.servers
    lines = [
        " ".join(
            [alias, share.adapter, str(share.percent), *(urls[name] for name in share.servers)]
        )
        for alias, route in facts.routes.items()
        for share in route.shares
    ]
    return {"versions.txt": "\n".join(lines) + "\n"}
