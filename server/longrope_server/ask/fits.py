"""Whether a prompt and its answer fit into the window of a server's model."""

from dataclasses import dataclass

from longrope_server.ask.question import Question
from longrope_server.ask.server import Server
from longrope_server.ask.untrusted import at, count_at
from longrope_server.errors import UsageError

NO_SUCH_ROUTE = (404, 405, 501)
BYTES_PER_TOKEN = 4  # of UTF-8; with today's tokenizers English has 4 to 5, Chinese 3 to 4


@dataclass(frozen=True)
class Model:
    """A model of the server's. limit: tokens of prompt and answer together; None if not known."""

    name: str
    limit: int | None


@dataclass(frozen=True)
class Length:
    """Tokens of a prompt, counted by the server or estimated."""

    tokens: int
    exact: bool


def choose(server: Server, name: str | None) -> Model:
    """The model `name` of the server, or its first.

    Raises UsageError if no name is given and the server lists no models.
    """
    cards = at(server.json("GET", "/v1/models", accepted=NO_SUCH_ROUTE), "data")
    known = [card for card in cards if at(card, "id")] if isinstance(cards, list) else []
    for card in known:
        if name in (None, card["id"]):
            return Model(str(card["id"]), count_at(card, "max_model_len"))
    if name is None:
        raise UsageError(f"{server.url} lists no models: name the one to ask with --model.")
    return Model(name, None)


def length(server: Server, model: Model, question: Question) -> Length:
    """How long a prompt is, counted by vLLM's /tokenize or, where that is missing, estimated."""
    body = {"model": model.name, "messages": question.messages()}
    document = server.json("POST", "/tokenize", body, accepted=NO_SUCH_ROUTE)
    tokens = count_at(document, "count")
    if tokens is not None:
        return Length(tokens, exact=True)
    size = sum(len(message["content"].encode()) for message in question.messages())
    return Length(-(-size // BYTES_PER_TOKEN), exact=False)


def check(length: Length, limit: int, max_tokens: int) -> None:
    """Raises UsageError if an answer of `max_tokens` does not fit after the prompt."""
    room = limit - length.tokens
    if max_tokens <= room:
        return
    about = "" if length.exact else "about "
    mend = "ask about a part of it"
    if room > 0:
        mend += f", or for an answer of {about}{room:,} tokens at most"
    raise UsageError(
        f"The document and the question have {about}{length.tokens:,} tokens, which leaves no "
        f"room for an answer of {max_tokens:,} (--max-tokens) in the {limit:,} that the server "
        f"takes: {mend}."
    )
