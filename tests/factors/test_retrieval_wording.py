"""Our prompts are those of lm-eval's RULER tasks, word for word, where they overlap."""

import random
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from longrope_factors.evaluating.retrieval import niah, tasks
from longrope_factors.evaluating.retrieval.documents import Document
from longrope_factors.evaluating.retrieval.filler import NOISE
from longrope_factors.evaluating.retrieval.niah import Fact
from longrope_factors.evaluating.retrieval.prompts import Prompts

from tests.factors import tiny

NEEDLE = re.compile(r"One of the special magic numbers for (.+) is: (\d+)\.")
TOKENIZER = tiny.byte_level()
TOKENIZER.chat_template = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if not loop.last %}[end]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[end][assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def ruler() -> ModuleType:
    """lm-eval's maker of needles in haystacks, without its downloads and millions of names."""
    nltk = pytest.importorskip("nltk")
    wonderwords = pytest.importorskip("wonderwords")
    pytest.importorskip("lm_eval")
    few = {"nouns": [f"noun{n}" for n in range(99)], "adjectives": ["odd", "dry"], "verbs": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk, "download", lambda *_: None)
        patch.setattr(wonderwords, "RandomWord", lambda: SimpleNamespace(_categories=few))
        from lm_eval.tasks.ruler import niah_utils, prepare_niah
    prepare_niah.TEMPLATE = niah_utils.TEMPLATE
    return prepare_niah


def sample(ruler: ModuleType, haystack: str, **counts: int) -> dict[str, Any]:
    """One sample as lm-eval makes it, under 4,000 bytes."""
    random.seed(0)
    (found,) = ruler.generate_samples(
        *(ruler.get_haystack(haystack), TOKENIZER),
        max_seq_length=4000,
        type_haystack=haystack,
        type_needle_k="words",
        type_needle_v="numbers",
        template=ruler.TEMPLATE,
        num_samples=1,
        **counts,
    )
    return found


def ours(sample: dict[str, Any]) -> Document:
    """Our document of the same facts and filler."""
    _, *lines, _ = sample["input"].split("\n")
    asked_for = sample["input"].rsplit(" for ", 1)[1]
    # As the answers are ordered: by the keys of the question, then by when they were drawn.
    facts = [Fact(*NEEDLE.fullmatch(line).groups(), 0.5) for line in lines if NEEDLE.match(line)]
    wanted = sorted(
        (fact for fact in facts if fact.key in asked_for and fact.value in sample["outputs"]),
        key=lambda fact: sample["outputs"].index(fact.value),
    )
    return Document(niah.text("\n".join(lines), of_one=len(wanted) == 1), (niah.asked(wanted),))


COUNTS = {
    "single_key": ("repeat", {}),
    "multi_key": ("needle", {}),
    "multi_query": ("repeat", {"num_needle_q": 4}),
    "multi_value": ("repeat", {"num_needle_v": 4}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_prompts_are_lm_evals(name: str, ruler: ModuleType) -> None:
    from lm_eval.api.task import ConfigurableTask

    haystack, counts = COUNTS[name]
    theirs = sample(ruler, haystack, **counts)
    document = ours(theirs)
    (asked,) = document.asked
    assert document.text + asked.question == theirs["input"]
    assert asked.prefix == theirs["gen_prefix"]
    assert list(asked.answers) == theirs["outputs"]
    assert tasks.TASKS[name].said == 128, "their max_gen_toks"

    turns = ConfigurableTask.build_qa_turn(None, q=theirs["input"], gen_prefix=asked.prefix)
    plain = "".join(turn.to_text() for turn in turns)
    assert Prompts(TOKENIZER, "plain").text(document, asked) == plain
    # As lm-eval's HFLM.apply_chat_template.
    chat = TOKENIZER.apply_chat_template(
        [turn.to_dict() for turn in turns], tokenize=False, continue_final_message=True
    )
    assert Prompts(TOKENIZER, "chat").text(document, asked) == chat


def test_the_filler_is_theirs(ruler: ModuleType) -> None:
    assert list(NOISE.units) == [ruler.get_haystack("repeat")]
    lines = sample(ruler, "repeat")["input"].split("\n")[1:-1]
    assert {line for line in lines if not NEEDLE.match(line)} == set(NOISE.units)
    lines = sample(ruler, "needle")["input"].split("\n")[1:-1]
    assert all(NEEDLE.fullmatch(line) for line in lines)


@pytest.mark.parametrize("name", COUNTS)
def test_our_documents_have_that_wording(name: str, ruler: ModuleType) -> None:
    depths = [0.5] if name == "single_key" else [n / 8 for n in range(8)]
    document = tasks.TASKS[name].make(random.Random(0), 40, depths, NOISE)
    for asked in document.asked:
        prompt = {"input": document.text + asked.question, "outputs": list(asked.answers)}
        again = ours(prompt)
        assert again.text == document.text
        assert again.asked[0].question == asked.question
        assert again.asked[0].prefix == asked.prefix
