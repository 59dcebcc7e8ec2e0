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

    population: Annotated[int, Field(ge=1, description="P, the first population")] = 64
    mutations: Annotated[int, Field(ge=0, description="N1, mutations in each iteration")] = 16
    crossovers: Annotated[int, Field(ge=0, description="N2, crossovers in each iteration")] = 16
    parents: Annotated[int, Field(ge=1, description="k, parents of the next iteration")] = 32
    iterations: Annotated[int, Field(ge=0, description="T, iterations")] = 40
    chance: Annotated[float, Field(ge=0, le=1, description="p, chance that a gene mutates")] = 0.3
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
        Field(description="standard errors behind at which a candidate is dropped; false: never"),
    ] = 1.0
    seed: Annotated[int, Field(description="fixes every random choice")] = 0


class SpaceSettings(Section):
    """[space]: what is searched, and on what."""

    windows: Annotated[int, Field(ge=1, description="windows of each text")] = 1
    windows_of: Annotated[
        int | None,
        Field(ge=2, description="read each window as 16 of so many tokens that skip to the length"),
    ] = None
    objective: Annotated[
        Objective, Field(description="perplexity of all tokens, or of needles' answers alone")
    ] = "perplexity"
    shape: Annotated[
        ShapeName,
        Field(description="monotone, covering, piecewise (two cuts) or critical (LongRoPE2)"),
    ] = "monotone"
    critical_pair: Annotated[
        int | None, Field(description="fixes the critical dimension pair, else it is searched")
    ] = None
    step: Annotated[float, Field(ge=1e-6, description="grid of the factors")] = 0.01
    max_factor: Annotated[
        float | None, Field(ge=1, description="largest factor, else 1.25 times the ratio")
    ] = None
    attention_factor: Annotated[
        float | Literal["search"] | None,
        BeforeValidator(_attention_factor),
        Field(description="a number, or search; else Hugging Face's formula"),
    ] = None
    search_start_tokens: Annotated[
        bool, Field(description="whether n_hat, the tokens left as they are, is searched")
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
                "attention_factor is search, which short windows cannot tell: with windows_of it "
                "should be a number, or left out"
            )
        return self
