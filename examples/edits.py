"""Changes declarations of a play, and prints what was changed."""

from pathlib import Path

from demo import DIM, RESET


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replace texts of a file, each once; a text that is not there ends the play."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"play failed: no {old!r} in {path.name}")
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    shown = ", ".join(f"{old!r} -> {new.strip()!r}" for old, new in changes)
    print(f"{DIM}{path.name}: {shown}{RESET}", flush=True)
