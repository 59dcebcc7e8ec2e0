"""Read a long text into a cache once, and then several short texts after it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache

from longrope_factors.evaluating.retrieval import attention, cache
from longrope_factors.factor_file.schema import FactorSet
from longrope_factors.models import perplexity
from longrope_factors.models.loading import LoadedModel
from longrope_factors.models.rotation import rotated_by

_CHUNK = 32768  # tokens whose activations exist at a time


@dataclass
class Reading:
    """What a model has read: `context` tokens, and then tokens of several branches.

    Each branch is a text that continues the context and does not see the other branches.
    """

    model: Any
    head: Callable[[torch.Tensor], torch.Tensor]
    context: int
    _cache: Cache
    _branches: torch.Tensor  # the branch of each token after the context

    def go_on(self, token_ids: Sequence[int], places: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Read more tokens, each with its branch and its index there; returns states [n, d].

        The tokens of a branch must be in order. The states are the last hidden states.
        """
        device = self.model.device
        branches, indices = torch.tensor(places, device=device).T
        n = len(token_ids)
        self._branches = torch.cat([self._branches, branches])
        earlier = torch.ones(n, len(self._branches), dtype=torch.bool, device=device)
        earlier = earlier.tril(len(self._branches) - n) & (branches[:, None] == self._branches)
        context = torch.ones(n, self.context, dtype=torch.bool, device=device)
        hidden: torch.Tensor = self.model.base_model(
            torch.tensor([list(token_ids)], device=device),
            position_ids=(self.context + indices)[None],
            attention_mask=torch.cat([context, earlier], dim=1)[None, None],
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[0]
        return hidden

    def forget(self) -> None:
        """Forget all branches."""
        cache.cut(self._cache, self.context)
        self._branches = self._branches[:0]


@contextlib.contextmanager
def reading(
    loaded: LoadedModel,
    factor_set: FactorSet,
    context_ids: Sequence[int],
    room: int,
    on_layer: Callable[[], None] | None = None,
) -> Iterator[Reading]:
    """Read `context_ids`, at least one token, under `factor_set`, with room for `room` more.

    `on_layer` is called as often as the model has layers. Raises UsageError if some layers of the
    model do not see the whole text, and as `perplexity.perplexity` does.
    """
    model = loaded.model
    ids = torch.tensor([list(context_ids)], device=model.device)
    context = len(context_ids)
    kept = cache.of(len(model.base_model.layers), context + room)
    starts = range(0, context, _CHUNK)
    with (
        torch.inference_mode(),
        attention.used_in(model, context + room),
        rotated_by(model, factor_set, loaded.identity),
    ):
        head = perplexity.checked_head(model, ids[0, :4])
        with perplexity.counting_layers(model, _every(len(starts), on_layer)):
            for start in starts:
                end = min(start + _CHUNK, context)
                model.base_model(
                    ids[:, start:end],
                    position_ids=torch.arange(start, end, device=model.device)[None],
                    past_key_values=kept,
                    use_cache=True,
                )
        none = torch.empty(0, dtype=torch.long, device=model.device)
        yield Reading(model, head, context, kept, none)


def _every(count: int, on_layer: Callable[[], None] | None) -> Callable[[], None] | None:
    # A layer is done when it has read all `count` chunks. The calls only show progress, so `count`
    # calls from any layers may stand for one layer.
    if on_layer is None:
        return None
    calls = 0

    def counted() -> None:
        nonlocal calls
        calls += 1
        if calls % count == 0:
            on_layer()

    return counted
