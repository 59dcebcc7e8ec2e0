"""How large the numbers of a profile may be: far more than can be run, so that a slip is refused.

A rate of 1e9 would fill the memory with its requests, and a rate of 1e-9 wait for years.
"""

from typing import Annotated

from pydantic import Field

MOST = 100_000_000  # tokens, seconds, or anything else
MOST_REQUESTS = 10_000_000  # of a run
MOST_USERS = 100_000  # more than a client has ports for connections to one server

Amount = Annotated[float, Field(ge=0, le=MOST)]
PositiveAmount = Annotated[float, Field(gt=0, le=MOST)]
Count = Annotated[int, Field(gt=0, le=MOST)]


def too_many(what: str, requests: float) -> str:
    """The sentence for a number of requests that no run may have."""
    return f"{what} would be {requests:,.0f} requests; a run has at most {MOST_REQUESTS:,}"
