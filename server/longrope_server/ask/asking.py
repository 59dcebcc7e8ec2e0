"""Asks a question, and shows its progress, its answer and its numbers."""

from contextlib import closing

from longrope_server.ask import fits
from longrope_server.ask.answer import Answer
from longrope_server.ask.question import Prefill, Question, put
from longrope_server.ask.server import Server, ServerError
from longrope_server.ask.show import Display


def ask(server: Server, model: str | None, question: Question, display: Display) -> None:
    """Checks that the question fits, puts it to `model`, and shows the answer.

    model: None for the server's first.

    If the answer breaks off or Ctrl-C ends it, the part that has arrived is shown before
    ServerError or KeyboardInterrupt is raised.
    """
    answer = Answer()
    try:
        with display.waiting("counting tokens"):
            chosen = fits.choose(server, model)
            if chosen.limit is not None:
                fits.check(fits.length(server, chosen, question), chosen.limit, question.max_tokens)
        with (
            display.waiting(f"waiting for {chosen.name}") as wait,
            closing(put(server, chosen.name, question, answer)) as parts,
        ):
            for part in parts:
                if isinstance(part, Prefill):
                    wait.prefill(part.computed, part.total)
                else:
                    wait.end()
                    display.add(part)
    except (ServerError, KeyboardInterrupt):
        display.end(answer)
        raise
    display.end(answer)
    display.summary(answer, question.max_tokens)
