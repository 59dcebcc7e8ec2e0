"""`longrope key`: makes API keys."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from longrope_server.errors import UsageError
from longrope_server.keys import key_file
from longrope_server.keys.key_file import Key, Quota

app = typer.Typer(
    help="Make API keys for `longrope serve --api-key-file FILE`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _key() -> None:
    """Make API keys for `longrope serve --api-key-file FILE`."""


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
) -> None:
    """Make a key: add its hash to the end of FILE, and print the key itself, once.

    A running server reads FILE again on SIGHUP. To revoke a key, delete its line and send SIGHUP.
    """
    if not name or set(name) & set("# \t\r\n") or not name.isprintable():
        raise UsageError("A key's name should be one word without '#'.")
    known = key_file.read(file) if file.exists() else []
    if name in {key.name for key in known}:
        raise UsageError(f"The key file {file} has a key named {name!r} already.")
    token = f"lr-{secrets.token_urlsafe(32)}"
    quota = Quota(requests_per_minute, tokens_per_minute, in_flight)
    line = key_file.line_of(Key(name, key_file.digest_of(token), quota))
    try:
        file.touch(mode=0o600)
        before = file.read_text(encoding="utf-8")
        with file.open("a", encoding="utf-8") as output:
            output.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")
    except OSError as error:
        raise UsageError(f"The key file {file} cannot be written: {error.strerror}.") from None
    typer.echo(token)
