"""What a fine-tune was asked to do."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from longrope_factors.factor_file import bounds
from longrope_factors.settings import Section

Share = Annotated[float, Field(ge=0, lt=1)]
_LEAST_WINDOW = 32


class TrainingSettings(Section):
    """[finetune]: the training; the defaults are the paper's for LLaMA2.

    LongRoPE, arXiv 2402.13753, section 4.1. `batch` counts sequences per optimiser step over all
    processes. The result of a `lora` run is the adapter and a factor file that names it, or with
    `merge` a whole model. `norms` and `embeddings` are trained beside the adapter; they need
    `merge`, because no server takes them unmerged. `mixed` is LongRoPE2's (arXiv 2502.20082,
    section 3.3).

    With `positions` "skip", a sequence has at most `window` tokens, whose positions span a text of
    up to the length (PoSE, arXiv 2309.10400). The `full_share` of the sequences are whole windows
    of `full_length` instead. With "consecutive" positions, all are whole windows of the length.

    With `distill`, the target of plain text is not the text's next token. It is what the model
    without its adapter predicts for the same tokens, at consecutive positions under the original
    rotation (LongReD, arXiv 2502.07365, section 3.3), so that weights which learn to find facts do
    not forget language. Half of the windows then have no gaps, as that model reads them. Sequences
    longer than the original length, which it cannot read, keep the text's next token.

    None means a default that depends on other settings. `window` is then the length, and
    `learning_rate` is that of `peak_rate`. There are about six checks; their prompts have the
    length, or on a CPU one and a half original lengths.
    """

    steps: Annotated[int, Field(ge=1, description="optimiser steps")] = 400
    learning_rate: Annotated[
        float | None,
        Field(gt=0, description="peak learning rate; if left out, 2e-5, or 2e-4 for an adapter"),
    ] = None
    warmup: Annotated[int, Field(ge=0, description="warm-up steps")] = 20
    batch: Annotated[int, Field(ge=1, description="sequences in each step")] = 32
    lora: Annotated[
        int | None, Field(ge=1, description="train an adapter of this rank instead of all weights")
    ] = None
    merge: Annotated[
        bool, Field(description="with lora, write a whole model with the adapter merged")
    ] = False
    norms: Annotated[bool, Field(description="with lora and merge, train the norms too")] = False
    embeddings: Annotated[
        bool, Field(description="with lora and merge, train the embeddings too")
    ] = False
    positions: Annotated[
        Literal["consecutive", "skip"],
        Field(description="consecutive, or skip: short windows whose positions span the length"),
    ] = "consecutive"
    window: Annotated[
        int | None, Field(description="tokens in a sequence with skipped positions")
    ] = None
    full_share: Annotated[
        Share, Field(description="with skipped positions, share of the sequences that are whole")
    ] = 0.0
    full_length: Annotated[
        int | None, Field(ge=2, description="tokens in a whole sequence; the length if left out")
    ] = None
    retrieval_share: Annotated[
        Share, Field(description="share of the sequences that are retrieval exercises")
    ] = 0.0
    distill: Annotated[
        bool,
        Field(
            description="train plain text on the untuned model's predictions instead of the text"
        ),
    ] = False
    mixed: Annotated[
        Share,
        Field(description="share of the tokens in short documents, under the original rotation"),
    ] = 0.0
    passkey_share: Annotated[
        Share, Field(description="share of the sequences that are passkey prompts")
    ] = 0.0
    separator: Annotated[
        str | None,
        Field(
            min_length=1,
            description="text between the documents of a file; if left out, a file is one document",
        ),
    ] = None
    seed: Annotated[
        int, Field(ge=0, lt=2**63, description="seed that fixes every random choice")
    ] = 0
    check_every: Annotated[
        int | None, Field(ge=1, description="steps between checks on the held-out text")
    ] = None
    check_length: Annotated[
        int | None, Field(ge=2, description="tokens in each prompt of a check")
    ] = None
    checkpoint_every: Annotated[int, Field(ge=1, description="steps between checkpoints")] = 20
    context_parallel: Annotated[
        int, Field(ge=1, description="GPUs that share one sequence (accelerate launch)")
    ] = 1

    @property
    def steps_between_checks(self) -> int:
        """Steps from one check on a held-out text to the next; the last step has one too."""
        return self.check_every or max(round(self.steps / 6), 1)


class Settings(TrainingSettings):
    """One fine-tune: what is trained on which data, for `length` tokens.

    With a text `held_out`, every `check_every` steps the model is asked for facts that stand in
    this text, in prompts of `check_length` real tokens. The result has the weights that found most
    facts. If `dtype` is None, it is that of `devices.dtype`.
    """

    model: Path
    factors: Path
    length: Annotated[int, Field(ge=2)]
    corpus: Annotated[tuple[Path, ...], Field(min_length=1)]
    output: Path
    held_out: Path | None = None
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        Field(
            description="dtype of matrix products; by default float32 on a CPU, bfloat16 on a GPU"
        ),
    ] = None
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        Field(description="device: cpu or cuda; a GPU if there is one"),
    ] = None

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        self._check_lora()
        self._check_positions()
        self._check_checks()
        if self.distill and (self.lora is None or self.embeddings):
            raise ValueError(
                "distill needs lora, and no embeddings: the model teaches with its own weights, "
                "which training must leave as they are"
            )
        if self.context_parallel > 1:
            self._check_context_parallel()
        return self

    @property
    def writes_adapter(self) -> bool:
        """Whether the result is an adapter and not a whole model."""
        return self.lora is not None and not self.merge

    @property
    def peak_rate(self) -> float:
        """The highest learning rate; an adapter's is by default LoRA's usual 2e-4."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 2e-5 if self.lora is None else 2e-4

    @property
    def window_tokens(self) -> int:
        """The most tokens of a sequence, unless it is one of the full share."""
        return self.length if self.window is None else self.window

    @property
    def whole_tokens(self) -> int:
        """The most tokens of a whole sequence."""
        return self.length if self.full_length is None else self.full_length

    @property
    def check_interval(self) -> int | None:
        """`steps_between_checks`; None without checks."""
        return None if self.held_out is None else self.steps_between_checks

    def _check_checks(self) -> None:
        for name, most in (("check_every", self.steps), ("check_length", self.length)):
            value = getattr(self, name)
            if value is None:
                continue
            if self.held_out is None:
                raise ValueError(f"{name} needs held_out, the text that the questions are about")
            if value > most:
                raise ValueError(f"{name} is {value}; it should be at most {most}")

    def _check_positions(self) -> None:
        if self.passkey_share + self.retrieval_share >= 1:
            raise ValueError(
                f"retrieval_share {self.retrieval_share} and passkey_share {self.passkey_share} "
                "leave no sequence for the corpus: together they should be below 1"
            )
        if self.positions == "consecutive":
            if self.window_tokens != self.length:
                raise ValueError(
                    f"window {self.window} is for skipped positions: with consecutive ones a "
                    f"window has the {self.length} tokens of the length"
                )
            if self.full_share or self.full_length is not None:
                raise ValueError(
                    "full_share and full_length are for skipped positions: consecutive sequences "
                    "are whole anyway"
                )
            return
        if not _LEAST_WINDOW <= self.window_tokens < self.length:
            raise ValueError(
                "skipped positions need a window, the number of tokens in a sequence: at least "
                f"{_LEAST_WINDOW}, and less than the length of {self.length}"
            )
        if self.full_length is not None and not (
            self.full_share and self.window_tokens < self.full_length <= self.length
        ):
            raise ValueError(
                f"full_length {self.full_length} needs a full_share, and should be above the "
                f"window of {self.window_tokens} and at most the length of {self.length}"
            )
        if self.passkey_share:
            raise ValueError(
                "passkey_share is for consecutive positions: with skipped ones, use retrieval_share"
            )
        if self.context_parallel > 1:
            raise ValueError(
                "context_parallel divides long sequences, and with skipped positions there are "
                "none: leave one of them out"
            )

    def _check_lora(self) -> None:
        for name in ("merge", "norms", "embeddings"):
            if self.lora is None and getattr(self, name):
                raise ValueError(f"{name} needs lora, a rank: without it all weights are trained")
        if not self.writes_adapter:
            return
        assert self.lora is not None
        if self.lora > bounds.RANK:
            raise ValueError(
                f"lora {self.lora} is above {bounds.RANK}, the greatest rank that vLLM serves: it "
                "needs merge"
            )
        for name in ("norms", "embeddings"):
            if getattr(self, name):
                raise ValueError(f"{name} needs merge: vLLM serves no adapter with them")

    def _check_context_parallel(self) -> None:
        if self.held_out is not None:
            raise ValueError(
                "held_out needs the whole model on one device, and context_parallel shards it: "
                "leave one of them out"
            )
        if self.mixed:
            raise ValueError(
                "mixed packs short documents, which accelerate's context parallelism cannot keep "
                "apart: leave one of mixed and context_parallel out"
            )
        if self.length % (2 * self.context_parallel):
            raise ValueError(
                f"length {self.length} should be a multiple of {2 * self.context_parallel}, twice "
                f"the {self.context_parallel} of context_parallel"
            )
