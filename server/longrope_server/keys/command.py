"""`longrope key`: makes API keys, and prints what they have used."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from longrope_server.errors import UsageError
from longrope_server.keys import key_file, usage_ledger
from longrope_server.keys.key_file import Key, Quota

WIDEST = 1000  # columns; in a narrow terminal, rich would cut names and numbers off

app = typer.Typer(
    help="Make API keys for `longrope serve --api-key-file FILE`, and print what they have used.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the key's owner; not a secret.")
    ],
    file: Annotated[
        Path, typer.Option(metavar="FILE", help="Key file, to which the key's hash is added.")
    ],
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Quota: requests in a minute. Default: no limit.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Quota: tokens in a minute. Default: no limit.")
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Quota: requests at the same time. Default: no limit.")
    ] = None,
    longest_prompt: Annotated[
        int | None, typer.Option(min=1, help="Longest prompt, in tokens. Default: no limit.")
    ] = None,
    models: Annotated[
        str, typer.Option(metavar="A,B", help="Models and LoRA adapters. Default: all.")
    ] = "",
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day, in UTC. Default: never."),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(help="The lowest is served first; with --scheduling-policy priority only."),
    ] = 0,
) -> None:
    """Make a key: add its hash to the end of FILE, and print the key itself, once.

    A running server reads FILE again on SIGHUP. To revoke a key, delete its line and send SIGHUP.
    """
    if not name or set(name) & set("# \t\r\n") or not name.isprintable():
        raise UsageError("A key's name should be one word without '#'.")
    known = key_file.read(file) if os.path.exists(file) else []  # False if it cannot be looked at
    if name in {key.name for key in known}:
        raise UsageError(f"The key file {file} has a key named {name!r} already.")
    last_day = expires.date() if expires else None
    token = f"lr-{secrets.token_urlsafe(32)}"
    quota = Quota(requests_per_minute, tokens_per_minute, in_flight)
    key = Key(
        name,
        key_file.digest_of(token),
        quota,
        longest_prompt,
        tuple(models.split(",")) if models else (),
        last_day,
        priority,
    )
    if key.has_expired:
        raise UsageError(f"--expires is {last_day}; it should be today, in UTC, or a later day.")
    line = key_file.line_of(key)
    with _writing(file):
        file.touch(mode=0o600)
        before = file.read_text(encoding="utf-8")
    typer.echo(token)  # first: once its hash is in the file, nothing can show it
    with _writing(file), file.open("a", encoding="utf-8") as output:
        output.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"The key file {file} cannot be written: {error.strerror}.") from None


@app.command()
def usage(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The one of `serve --accounting`.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day, in UTC. Default: all days."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print what the keys have used, by day (UTC) and factor set.

    A request is counted when it has ended, with the tokens that the engine had counted by then.
    """
    rows = usage_ledger.read(directory, since=f"{since:%Y-%m-%d}" if since else "")
    if as_json:
        for account, amounts in rows:
            typer.echo(json.dumps(asdict(account) | asdict(amounts)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("key", "day"):
        table.add_column(column, no_wrap=True)
    for column in ("set", *usage_ledger.COLUMNS):
        table.add_column(column.removesuffix("_tokens"), justify="right", no_wrap=True)
    for name, of_key in groupby(rows, key=lambda row: row[0].key):
        group = list(of_key)
        for account, amounts in group:
            numbers = [f"{number:,}" for number in (account.factor_set, *astuple(amounts))]
            table.add_row(name, account.day, *numbers)
        total = [f"{number:,}" for number in astuple(usage_ledger.total(group))]
        table.add_row(name, "total", "", *total, end_section=True)
    # The table takes what it needs of the width. Names are no markup.
    Console(width=WIDEST, markup=False, emoji=False).print(table)
