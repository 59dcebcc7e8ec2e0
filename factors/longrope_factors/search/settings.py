"""How a search runs, and what it searches."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from longrope_factors.factor_file import bounds
from longrope_factors.settings import Section

Objective = Literal["perplexity", "needle"]
ShapeName = Literal["monotone", "covering", "piecewise", "critical"]


def _off(value: Any) -> Any:
    return None if value is False else value


def _attention_factor(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value in (None, "search") or (is_number and bounds.ATTENTION_FACTOR.hold(value)):
        return value
    raise ValueError(f"it should be 'search' or a number {bounds.ATTENTION_FACTOR}")


class Settings(Section):
    """[search]: the evolution, with the papers' defaults (arXiv 2402.13753, section 4.1)."""

    population: Annotated[
        int, Field(ge=1, description="candidates in the first population (P)")
    ] = 64
    mutations: Annotated[int, Field(ge=0, description="mutations in each iteration (N1)")] = 16
    crossovers: Annotated[int, Field(ge=0, description="crossovers in each iteration (N2)")] = 16
    parents: Annotated[int, Field(ge=1, description="best candidates that become parents (k)")] = 32
    iterations: Annotated[int, Field(ge=0, description="number of iterations (T)")] = 40
    chance: Annotated[
        float, Field(ge=0, le=1, description="probability that a gene mutates (p)")
    ] = 0.3
    warp: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of the mutations that move the whole curve; 0 in the papers",
        ),
    ] = 0.5
    racing: Annotated[
        Annotated[float, Field(ge=0)] | None,
        BeforeValidator(_off),
        Field(description="drop a candidate this many standard errors behind; false drops none"),
    ] = 1.0
    seed: Annotated[
        int, Field(ge=0, lt=2**63, description="seed that fixes every random choice")
    ] = 0


class SpaceSettings(Section):
    """[space]: what is searched, and on what."""

    windows: Annotated[int, Field(ge=1, description="windows read from each text")] = 1
    windows_of: Annotated[
        int | None,
        Field(
            ge=2,
            description="read each window as 16 of this many tokens, with skipped positions",
        ),
    ] = None
    objective: Annotated[
        Objective,
        Field(description="perplexity (of all tokens) or needle (only of answers about needles)"),
    ] = "perplexity"
    shape: Annotated[
        ShapeName,
        Field(description="monotone, covering, piecewise (two cuts) or critical (LongRoPE2)"),
    ] = "monotone"
    critical_pair: Annotated[
        int | None, Field(description="the critical dimension pair; searched if left out")
    ] = None
    step: Annotated[float, Field(ge=1e-6, description="grid step of the factors")] = 0.01
    max_factor: Annotated[
        float | None,
        Field(ge=1, description="largest factor; 1.25 times the extension ratio if left out"),
    ] = None
    attention_factor: Annotated[
        float | Literal["search"] | None,
        BeforeValidator(_attention_factor),
        Field(description="a number, or search; Hugging Face's formula if left out"),
    ] = None
    search_start_tokens: Annotated[
        bool, Field(description="search n_hat, the number of start tokens; if false, it is 0")
    ] = True

    @model_validator(mode="after")
    def _check_together(self) -> "SpaceSettings":
        if self.critical_pair is not None and self.shape != "critical":
            raise ValueError("critical_pair goes with shape critical only")
        if self.windows_of is None:
            return self
        if self.objective != "perplexity":
            raise ValueError("windows_of goes with objective perplexity only")
        if self.attention_factor == "search":
            raise ValueError(
                "attention_factor is search, but short windows cannot tell which is best: with "
                "windows_of it should be a number, or left out"
            )
        return self
