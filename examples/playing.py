"""Changes declarations of a play and prints the changes; plays to the end and cleans up."""

import time
from pathlib import Path

from demo import DIM, RESET, Demo


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


def play_to_the_end(play: Demo) -> None:
    """Play, stop what was started, and print the seconds of each step."""
    began = time.monotonic()
    try:
        play.play()
    finally:
        with play.step("Stop what was started"):
            play.stop_everything()
        for title, seconds in play.times:
            print(f"  {seconds:6.1f}  {title}")
        print(f"  {time.monotonic() - began:6.1f}  in all")
