"""Callbacks that follow a search."""

from longrope_factors.search.evolving.evolution import Iteration


class Watcher:
    """Is told what a search does; the methods of this base class do nothing."""

    def measured(self) -> None:
        """Another evaluation is known: measured now, or logged by an earlier run."""

    def iteration(self, iteration: Iteration) -> None:
        """An iteration has finished."""
