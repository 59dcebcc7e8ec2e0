"""What `longrope serve` hands to the pieces around vLLM's application.

It travels in an environment variable, because vLLM starts the processes that serve HTTP. A stock
`vllm serve` with VLLM_PLUGINS=longrope reads the same variable.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longrope_server.errors import UsageError
from longrope_server.front_end.admission.ledger import IN_MEMORY
from longrope_server.front_end.admission.limits import Limits

VARIABLE = "LONGROPE_FRONT_END"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """The settings of the pieces.

    limits: those of admission. ledger: the database in which the API processes count what is under
    way. key_file: None if no key is required. open_paths: the paths that can be read without a
    key, in addition to liveness and readiness. accounting: the directory of the usage ledger and
    the request log, if there are any. body_bytes: the largest body; None derives it from the served
    length. body_seconds: the time in which a body must arrive. drain_seconds: the time that running
    requests have after SIGTERM; None takes vLLM's --shutdown-timeout. progress_seconds: the time
    between two comments on a prefill. page: whether the page in the browser is served.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Limits = Limits()
    ledger: str = IN_MEMORY
    key_file: str | None = None
    open_paths: tuple[str, ...] = ()
    accounting: str | None = None
    body_bytes: Annotated[int, Field(ge=1)] | None = None
    body_seconds: Seconds = 60.0
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    progress_seconds: Seconds = 1.0
    page: bool = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """What the variable says; the defaults if it is not set. Raises UsageError."""
        try:
            return cls.model_validate_json(environment.get(VARIABLE, "{}"))
        except ValidationError as error:
            raise UsageError(f"{VARIABLE}: {in_words(error)}") from None


def in_words(error: ValidationError) -> str:
    """The first error of a validation, as a sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the value"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}."
