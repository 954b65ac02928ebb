"""`fleetctl schema`: print the JSON Schema of the declarations."""

from pathlib import Path

import click


@click.command(
    epilog="""\b
Examples:
  fleetctl schema --out fleet.schema.json
Then, as the first line of a file, for editors:
  # yaml-language-server: $schema=fleet.schema.json
"""
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of standard output.",
)
def command(out: Path | None) -> None:
    """Print the JSON Schema of the declarations.

    Editors complete and check the files with this schema.
    """
    from fleet.config import json_schema

    text = json_schema()
    if out:
        out.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {out}.", err=True)
    else:
        click.echo(text, nl=False)
