"""Who is told what a search does."""

from longrope_factors.search.evolving.evolution import Iteration


class Watcher:
    """Told what a search does; every method does nothing here."""

    def measured(self) -> None:
        """One more document was measured under a candidate, now or in an earlier run."""

    def iteration(self, iteration: Iteration) -> None:
        """An iteration is done."""
