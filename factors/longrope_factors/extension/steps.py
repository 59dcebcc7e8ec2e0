"""The steps of a recipe, with their folders and checks."""

from dataclasses import dataclass
from pathlib import Path

from longrope_factors.extension import checks
from longrope_factors.extension.recipe import Recipe
from longrope_factors.factor_file import model_directory, schema
from longrope_factors.factor_file.errors import UsageError
from longrope_factors.factor_file.schema import FactorFile, FactorSet
from longrope_factors.finetuning.output import FACTORS
from longrope_factors.finetuning.settings import Settings as FinetuneSettings
from longrope_factors.search import progress
from longrope_factors.search.question import Plan, Question, plan
from longrope_factors.search.run import as_factor_set, run
from longrope_factors.search.settings import Settings as SearchSettings

# Above this length in tokens, the paper halves the populations (arXiv 2402.13753, appendix A.3).
_HALVED_ABOVE = 512 * 1024
# The factor by which perplexity may rise if retrieval of facts is trained.
_SLACK = 1.01
# The same if a search minimised something else: on short windows, SmolLM2's came to 1.012.
_SEARCH_SLACK = 1.05
# By a step's number: the section with the settings of its search.
_SECTIONS = {"1": "search", "3": "second_search", "4": "short_search"}


@dataclass(frozen=True)
class Checked:
    """A finished step and what its check measured: perplexities, or shares of facts found."""

    name: str
    measured: dict[str, float]


class Extension:
    """A recipe that is being run; every step resumes where an earlier run stopped."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.first = recipe.output / "1-search"
        self.finetuned = recipe.output / "2-finetune"
        self.second = recipe.output / "3-second-search"
        self.model = recipe.output / "model"

    def first_plan(self) -> Plan:
        """The search at the fine-tuning length, on the model as it is."""
        return self._plan(self._recipe.model, self._recipe.finetune_length, SearchSettings())

    def second_plan(self, factor_file: FactorFile) -> Plan:
        """The search at the target length, on the fine-tuned model."""
        recipe = self._recipe
        assert recipe.target_length is not None
        return self._plan(
            self.finetuned,
            recipe.target_length,
            recipe.second_search,
            base=self._tuned_set(factor_file),
        )

    def short_plan(self, length: int, factor_file: FactorFile) -> Plan:
        """The search at a short length, on the fine-tuned model, starting from the given sets."""
        return self._plan(
            self.finetuned, length, self._recipe.short_search, starts=_different(factor_file)
        )

    def finetune_settings(self) -> FinetuneSettings:
        """The fine-tune under the first search's factors, for the next search.

        If a LoRA adapter is to be merged, norms and embeddings are trained too, unless the recipe
        says otherwise.
        """
        recipe = self._recipe
        given = recipe.finetune.given
        if given.get("retrieval_share"):
            given["held_out"] = recipe.held_out[0]
        if given.get("lora") is not None and not recipe.writes_adapter:
            given = {"merge": True, "norms": True, "embeddings": True, **given}
        return FinetuneSettings.made(
            {
                "model": recipe.model,
                "factors": self.first / FACTORS,
                "length": recipe.finetune_length,
                "corpus": recipe.corpus,
                "output": self.finetuned,
                "device": recipe.machine.device,
                "dtype": recipe.machine.dtype,
                **given,
            }
        )

    def run_search(self, planned: Plan, folder: Path, kept: FactorFile | None) -> FactorFile:
        """Search in `folder`; returns the factor file, which includes the sets of `kept`."""
        with progress.shown(planned) as watcher:
            result = run(planned, folder / FACTORS, self._recipe.machine, kept, watcher)
        return result.factor_file

    def check_search(
        self, name: str, planned: Plan, factor_file: FactorFile, folder: Path
    ) -> Checked:
        """Measure the found set's held-out perplexity.

        Raises UsageError if it is above that of the best seed. It may be 5 % above if the
        search did not minimise the perplexity of whole texts.
        """
        length = planned.question.length
        sets = {
            seed_name: as_factor_set(seed, planned, None)
            for seed_name, seed in planned.seeds.items()
        }
        sets["found"] = factor_file.sets[factor_file.select(length)]
        measured = checks.perplexities(
            self._recipe, planned.question.model_dir, sets, length, folder / "check.jsonl"
        )
        best = min(sets.keys() - {"found"}, key=lambda seed_name: measured[seed_name])
        space = self._recipe.space
        is_other = space.objective != "perplexity" or space.windows_of is not None
        if measured["found"] > measured[best] * (_SEARCH_SLACK if is_other else 1.0):
            section = _SECTIONS[name.partition("-")[0]]
            raise UsageError(
                f"{name}: on the held-out texts the factors found have perplexity "
                f"{measured['found']:.4f}, worse than {best}'s {measured[best]:.4f}: raise "
                f"iterations under [{section}] in the recipe and run it again; it continues from "
                f"{folder}."
            )
        return Checked(name, measured)

    def check_finetune(self, factor_file: FactorFile) -> Checked:
        """Measure held-out perplexity at the fine-tuning length, before and after training.

        Raises UsageError unless it fell. It may rise a little if retrieval of facts is trained,
        because perplexity does not show what that gains.
        """
        recipe, length = self._recipe, self._recipe.finetune_length
        sets = {"found": self._tuned_set(factor_file)}
        path = self.finetuned / "check.jsonl"
        before = checks.perplexities(recipe, recipe.model, sets, length, path)
        if recipe.writes_adapter:
            sets = {"found": self._tuned_set(schema.load(self.finetuned / FACTORS))}
        after = checks.perplexities(recipe, self.tuned_model, sets, length, path, self.finetuned)
        slack = _SLACK if recipe.finetune.retrieval_share else 1.0
        if after["found"] >= before["found"] * slack:
            raise UsageError(
                f"2-finetune: on the held-out texts the weights have perplexity "
                f"{after['found']:.4f} after training and {before['found']:.4f} before it: change "
                f"[finetune] in the recipe, and remove {self.finetuned}."
            )
        return Checked("2-finetune", {"before": before["found"], "after": after["found"]})

    @property
    def tuned_model(self) -> Path:
        """The weights of the result: the merged ones, or those that the adapter was trained on."""
        return self._recipe.model if self._recipe.writes_adapter else self.finetuned

    def check_retrieval(self) -> Checked | None:
        """The share of facts that the result finds at the length of each of its sets."""
        if self._recipe.retrieval is None:
            return None
        return Checked("retrieval", checks.retrieval(self._recipe, self._recipe.retrieval))

    def _tuned_set(self, factor_file: FactorFile) -> FactorSet:
        return factor_file.sets[factor_file.select(self._recipe.finetune_length)]

    def _plan(
        self,
        model_dir: Path,
        length: int,
        differing: SearchSettings,
        base: FactorSet | None = None,
        starts: tuple[FactorSet, ...] = (),
    ) -> Plan:
        recipe = self._recipe
        question = Question(
            model_dir=model_dir,
            length=length,
            corpus=recipe.corpus,
            base=base,
            starts=starts,
            dtype=recipe.machine.dtype,
            name=recipe.name or model_directory.identity_of(recipe.model).name,
            space=recipe.space,
        )
        given = recipe.search.given | differing.given
        if length > _HALVED_ABOVE:
            settings = SearchSettings(**given).model_dump()
            for name in {"population", "mutations", "crossovers"} - differing.given.keys():
                given[name] = max(settings[name] // 2, 1)
        return plan(question, SearchSettings(**given))


def _different(factor_file: FactorFile) -> tuple[FactorSet, ...]:
    return tuple({factor_set.fingerprint: factor_set for factor_set in factor_file.sets}.values())
