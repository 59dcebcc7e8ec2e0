"""What Hugging Face computes for each sequence alone, and the comparison with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from longrope_factors.factor_file.schema import FactorFile, FactorSet, ModelIdentity
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from tests.plugin.conftest import ON_GPU

Layout = Literal["halves", "interleaved", "single"]
DEVICE = "cuda" if ON_GPU else "cpu"


def angles(positions: np.ndarray, factor_set: FactorSet, identity: ModelIdentity) -> np.ndarray:
    """LongRoPE's equation in float64, written down anew: [n, rotary_dim / 2] radians."""
    pairs = np.arange(identity.rotary_dim // 2)
    plain = identity.rope_theta ** (-2.0 * pairs / identity.rotary_dim)
    scaled = plain / np.array(factor_set.factors)
    is_start = (positions < factor_set.start_tokens)[:, None]
    return positions.astype(np.float64)[:, None] * np.where(is_start, plain, scaled)


def _batch(tokens: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(tokens)], device=DEVICE)


def _rotary(model: torch.nn.Module) -> torch.nn.Module:
    base = model.base_model
    return getattr(base, "language_model", base).rotary_emb


@dataclass
class Reference:
    """A Hugging Face model that runs a sequence from its first token under a chosen set.

    native: leave the rotation to Hugging Face, which chooses by the length of its input.
    layout: of a position's angles in what the model's rotary module returns. models: by set, where
    its requests run on other weights or, natively, under another config. rounding: how far below
    the best token's logit another one's may be, as a share of the largest logit; by default twice
    the dtype's epsilon. numbered: the positions [rows, n] of a sequence of n tokens, where they are
    not those of text.
    """

    directory: Path
    factor_file: FactorFile
    dtype: torch.dtype = torch.float32
    native: bool = False
    layout: Layout = "halves"
    excused: int = 0
    compared: int = 0
    models: dict[int, torch.nn.Module] = field(default_factory=dict)
    rounding: float | None = None
    numbered: Callable[[int], torch.Tensor] | None = None
    _logits: dict[tuple[tuple[int, ...], int], torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Models with images are not in the first mapping.
        architecture = AutoConfig.from_pretrained(self.directory).architectures[0]
        of_text = (
            AutoModelForCausalLM if "CausalLM" in architecture else AutoModelForImageTextToText
        )
        model = of_text.from_pretrained(self.directory, dtype=self.dtype)
        self.model = model.to(DEVICE).eval()
        # vLLM's transformers backend adorns the very classes, and this instance is older.
        self.model.base_model.do_not_compile = True
        if not self.native:
            _rotary(self.model).forward = self._cos_sin
        self._set = self.factor_file.sets[0]
        if self.rounding is None:
            self.rounding = 2 * torch.finfo(self.dtype).eps

    def _cos_sin(
        self, x: torch.Tensor, position_ids: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if position_ids.ndim == 3:  # [rows, 1, n]: tokens have several positions
            return self._of_rows(x, position_ids[:, 0])
        turned = angles(position_ids[0].cpu().numpy(), self._set, self.factor_file.model)
        match self.layout:
            case "halves":
                turned = np.concatenate((turned, turned), axis=1)
            case "interleaved":
                turned = np.repeat(turned, 2, axis=1)
        laid_out = torch.from_numpy(turned)[None].to(x.device)
        scale = self._set.attention_factor
        return (laid_out.cos() * scale).to(x.dtype), (laid_out.sin() * scale).to(x.dtype)

    def _of_rows(
        self, x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which row a pair turns by is Hugging Face's to say. position_ids: [rows, n]."""
        rows = [
            torch.from_numpy(angles(row, self._set, self.factor_file.model))
            for row in position_ids.expand(3, -1).cpu().numpy()
        ]
        mixed = _rotary(self.model).recomposition_frequencies
        scale = self._set.attention_factor
        cos, sin = (mixed(turn(torch.stack(rows))[:, None]) for turn in (torch.cos, torch.sin))
        return (cos * scale).to(x), (sin * scale).to(x)

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int], index: int, last: int) -> torch.Tensor:
        """Logits float32 [last, vocabulary] at the last positions, all under one set."""
        key = (tuple(tokens), index)
        if key not in self._logits:
            self._set = self.factor_file.sets[index]
            model = self.models.get(index, self.model)
            if not self.native:
                _rotary(model).forward = self._cos_sin
            positions = {}
            if self.numbered is not None:
                positions["position_ids"] = self.numbered(len(tokens))[:, None].to(DEVICE)
            output = model(_batch(tokens), use_cache=False, logits_to_keep=last, **positions)
            self._logits[key] = output.logits[0].float().cpu()
        return self._logits[key]

    @torch.inference_mode()
    def vector(self, tokens: Sequence[int], index: int, mean: bool = False) -> torch.Tensor:
        """The last token's hidden state float32 [hidden], of length 1, all under one set.

        mean: of all tokens' states, instead.
        """
        self._set = self.factor_file.sets[index]
        hidden = self.model.model(_batch(tokens), use_cache=False).last_hidden_state[0].float()
        state = hidden.mean(0) if mean else hidden[-1]
        return torch.nn.functional.normalize(state.cpu(), dim=0)

    @torch.inference_mode()
    def native_logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Logits float32 [vocabulary] after `tokens`, under the set that Hugging Face chooses."""
        return self.model(_batch(tokens), use_cache=False).logits[0, -1].float().cpu()

    def expect(
        self, prompt: Sequence[int], output: Sequence[int], starts: int | None = None
    ) -> None:
        """Asserts that `output` is what greedy decoding gives, each token under its set.

        The token after n tokens must be the best one of the model run on those n alone, under
        the smallest set that covers n (or `starts`, if larger). Another token is excused only
        where its logit is within the rounding of the best.
        """
        tokens = [*prompt, *output]
        for i, token in enumerate(output):
            length = len(prompt) + i
            index = max(self.factor_file.select(length), starts or 0)
            row = (
                self.native_logits(tokens[:length])
                if self.native and not self.models
                else self.logits(tokens[:-1], index, len(output))[i]
            )
            gap = float(row.max() - row[token])
            tolerance = float(row.abs().max()) * self.rounding
            self.compared += 1
            if token != int(row.argmax()):
                assert gap <= tolerance, (
                    f"after {length} tokens (prompt {len(prompt)}, set {index}): token {token} is "
                    f"{gap:.4g} below {int(row.argmax())}, rounding is {tolerance:.2g}"
                )
                self.excused += 1

    def refused(self, prompt: Sequence[int], output: Sequence[int], index: int) -> int:
        """The number of tokens of `output` that `expect` would refuse under this set alone."""
        rows = self.logits([*prompt, *output][:-1], index, len(output))
        gaps = rows.max(-1).values - rows[torch.arange(len(output)), torch.tensor(output)]
        return int((gaps > rows.abs().max(-1).values * self.rounding).sum())
