"""What a fine-tune was asked to do."""

import math
from dataclasses import dataclass
from pathlib import Path

from longrope_factors.factor_file import bounds
from longrope_factors.factor_file.errors import UsageError

DTYPES = ("bfloat16", "float32")
DEVICES = ("cpu", "cuda")
POSITIONS = ("consecutive", "skip")
_LEAST_WINDOW = 32


@dataclass(frozen=True)
class Settings:
    """One fine-tune; the defaults are the paper's for LLaMA2 (arXiv 2402.13753, section 4.1).

    `length` and everything that counts tokens is in tokens. `batch` counts sequences per optimiser
    step over all processes. `lora` is the adapter's rank, None for full fine-tuning. The result is
    then the adapter and a factor file that names it, or with `merge` a whole model; `norms` and
    `embeddings` are trained beside the adapter, which no server takes unmerged. `mixed` is the
    share of the tokens that short documents have, under the original rotation (LongRoPE2, arXiv
    2502.20082, section 3.3). `separator` parts the documents of a corpus file; None makes each file
    one document.

    With `positions` "skip" a sequence has at most `window` tokens, which lie as if in a text of up
    to `length` (PoSE, arXiv 2309.10400), but for the `full_share` of the sequences: these are whole
    windows of `length`, as all are with "consecutive" positions. `retrieval_share` is the share of
    the sequences that are retrieval exercises, `passkey_share` that of passkey prompts.

    With `distill` the lesson of plain text is what the model without its adapter predicts there, at
    consecutive positions under the original rotation (LongReD, arXiv 2502.07365, section 3.3), and
    not the text's next token: so weights that learn to find facts forget no language. Sequences
    longer than the original length, which that model cannot read, keep the text's.

    With a text `held_out`, every `check_every` steps the model is asked for facts in prompts of
    `check_length` real tokens, between which that text stands, and the weights that found most are
    those of the result.

    None stands for a default that depends on other settings or on the hardware: the `window` is
    then the `length`, `learning_rate` as `peak_rate` says and `dtype` as `devices.dtype` does. Of
    checks there are about six, of the `length`, or on a CPU of one and a half original lengths.
    """

    model: Path
    factors: Path
    length: int
    corpus: tuple[Path, ...]
    output: Path
    steps: int = 400
    learning_rate: float | None = None
    warmup: int = 20
    batch: int = 32
    lora: int | None = None
    merge: bool = False
    norms: bool = False
    embeddings: bool = False
    positions: str = "consecutive"
    window: int | None = None
    full_share: float = 0.0
    retrieval_share: float = 0.0
    distill: bool = False
    mixed: float = 0.0
    passkey_share: float = 0.0
    separator: str | None = None
    seed: int = 0
    dtype: str | None = None
    device: str | None = None
    held_out: Path | None = None
    check_every: int | None = None
    check_length: int | None = None
    checkpoint_every: int = 20
    context_parallel: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("length", 2),
            ("steps", 1),
            ("warmup", 0),
            ("batch", 1),
            ("seed", 0),
            ("checkpoint_every", 1),
            ("context_parallel", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{_option(name)} {getattr(self, name)} should be {least} or more."
                )
        if self.seed >= 2**63:
            raise UsageError(f"--seed {self.seed} should be below 2**63, as torch's are.")
        if not 0 < self.peak_rate < math.inf:
            raise UsageError(f"--learning-rate {self.learning_rate} should be a number above 0.")
        self._check_lora()
        for name in ("mixed", "passkey_share", "retrieval_share", "full_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(
                    f"{_option(name)} {getattr(self, name)} should be a share from 0 to below 1."
                )
        self._check_positions()
        self._check_checks()
        if self.distill and (self.lora is None or self.embeddings):
            raise UsageError(
                "--distill needs --lora RANK, and no --embeddings: the model teaches with its own "
                "weights, which training must leave as they are."
            )
        if self.dtype not in (None, *DTYPES):
            raise UsageError(f"--dtype {self.dtype} should be one of {', '.join(DTYPES)}.")
        if self.device not in (None, *DEVICES):
            raise UsageError(f"--device {self.device} should be one of {', '.join(DEVICES)}.")
        if not self.corpus:
            raise UsageError("No text was given: --corpus should name at least one UTF-8 file.")
        if self.context_parallel > 1:
            self._check_context_parallel()

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
    def check_interval(self) -> int | None:
        """Steps from one check to the next, None without checks; the last step has one too."""
        if self.held_out is None:
            return None
        return self.check_every or max(round(self.steps / 6), 1)

    def _check_checks(self) -> None:
        for name, least, most in (("check_every", 1, self.steps), ("check_length", 2, self.length)):
            value = getattr(self, name)
            if value is None:
                continue
            if self.held_out is None:
                raise UsageError(f"{_option(name)} needs --held-out TEXTFILE, which is checked by.")
            if not least <= value <= most:
                raise UsageError(f"{_option(name)} {value} should be from {least} to {most}.")

    def _check_positions(self) -> None:
        if self.positions not in POSITIONS:
            raise UsageError(
                f"--positions {self.positions} should be one of {', '.join(POSITIONS)}."
            )
        if self.passkey_share + self.retrieval_share >= 1:
            raise UsageError(
                f"--retrieval-share {self.retrieval_share} and --passkey-share "
                f"{self.passkey_share} leave no sequence for --corpus: they should be below 1."
            )
        if self.positions == "consecutive":
            if self.window_tokens != self.length:
                raise UsageError(
                    f"--window {self.window} is for --positions skip: with consecutive positions a "
                    f"window has the {self.length} tokens of --length."
                )
            if self.full_share:
                raise UsageError(
                    "--full-share is for --positions skip: consecutive sequences are whole anyway."
                )
            return
        if not _LEAST_WINDOW <= self.window_tokens < self.length:
            raise UsageError(
                "--positions skip needs --window, the tokens of a sequence: from "
                f"{_LEAST_WINDOW} to below the {self.length} of --length."
            )
        if self.passkey_share:
            raise UsageError(
                "--passkey-share is for consecutive positions: with --positions skip use "
                "--retrieval-share."
            )
        if self.context_parallel > 1:
            raise UsageError(
                "--context-parallel shares out long sequences, and --positions skip has none: "
                "leave one of them out."
            )

    def _check_lora(self) -> None:
        if self.lora is not None and self.lora < 1:
            raise UsageError(f"--lora {self.lora} should be a rank of 1 or more.")
        for name in ("merge", "norms", "embeddings"):
            if self.lora is None and getattr(self, name):
                raise UsageError(f"--{name} needs --lora RANK: without it all weights are trained.")
        if not self.writes_adapter:
            return
        assert self.lora is not None
        if self.lora > bounds.RANK:
            raise UsageError(
                f"--lora {self.lora} is above {bounds.RANK}, the greatest rank that vLLM serves: "
                "it needs --merge."
            )
        for name in ("norms", "embeddings"):
            if getattr(self, name):
                raise UsageError(f"--{name} needs --merge: vLLM serves no adapter with them.")

    def _check_context_parallel(self) -> None:
        if self.held_out is not None:
            raise UsageError(
                "--held-out asks a model that is whole on a device, and --context-parallel shards "
                "it: leave one of them out."
            )
        if self.mixed:
            raise UsageError(
                "--mixed packs short documents, which accelerate's context parallelism cannot keep "
                "apart: leave one of --mixed and --context-parallel out."
            )
        if self.length % (2 * self.context_parallel):
            raise UsageError(
                f"--length {self.length} should be a multiple of {2 * self.context_parallel}, "
                f"twice the {self.context_parallel} of --context-parallel."
            )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
