"""The command `longrope ask`. It imports what it needs when it runs."""

from contextlib import nullcontext
from typing import Annotated

import typer

from longrope_server.errors import UsageError


def ask(
    context: typer.Context,
    document: Annotated[
        str,
        typer.Argument(
            metavar="DOCUMENT", help="A text, Markdown or PDF file; - is standard input."
        ),
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    url: Annotated[
        str, typer.Option(help="Address of any OpenAI-compatible server.")
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Model to ask. Default: the first that the server lists."
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar=["LONGROPE_API_KEY", "OPENAI_API_KEY"],
            help="Key for the server; better set in the environment.",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of the answer, in tokens.")
    ] = 512,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Sampling temperature. Default: the server's own.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and no progress.")
    ] = False,
) -> None:
    """Ask a question about a long document.

    The answer goes to stdout as it arrives. Progress goes to stderr, followed by the factor set
    that served the answer, its tokens and its times. Nothing is sent to the model if the document
    does not fit.
    """
    from longrope_server.ask.asking import ask
    from longrope_server.ask.question import Question
    from longrope_server.ask.server import Server, ServerError
    from longrope_server.ask.show import Display
    from longrope_server.documents.document import read

    if context.args:
        raise UsageError("QUESTION should be one argument: put it in quotes.")
    display = Display(as_json)
    # A moving line would spoil what is typed into standard input.
    with nullcontext() if document == "-" else display.waiting(f"reading {document}"):
        content = read(document)
    asked = Question(content, question, max_tokens, temperature)
    try:
        with Server(url, api_key, [content, question], display.busy) as server:
            ask(server, model, asked, display)
    except ServerError as error:
        typer.echo(f"longrope: {error}", err=True)
        raise typer.Exit(1) from None
