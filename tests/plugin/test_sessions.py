"""A session grows by prompts that come later, so it runs under the largest set."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.plugin.engine import STEPS, engine, random_prompts, scheduler
from tests.plugin.models import TinyModel, tiny_model
from tests.plugin.reference import Reference

pytestmark = pytest.mark.both_runners

BLOCKS = 14  # of 32 tokens: requests are preempted


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model(tmp_path_factory.mktemp("sessions") / "model")


@pytest.fixture(scope="module", params=STEPS)
def llm(request: pytest.FixtureRequest, model: TinyModel) -> Iterator[Any]:
    is_async = request.param == "async"
    with engine(model, async_scheduling=is_async, num_gpu_blocks_override=BLOCKS) as llm:
        yield llm


class Client:
    """What a front end with streaming input does: it adds prompts to a request under way."""

    def __init__(self, llm: Any) -> None:
        self.engine = llm.llm_engine
        self.tokens: dict[str, list[int]] = {}

    def send(self, name: str, prompt: Sequence[int], max_tokens: int, resumable: bool) -> None:
        from vllm import SamplingParams, TokensPrompt

        request = self.engine.input_processor.process_inputs(
            name,
            TokensPrompt(prompt_token_ids=list(prompt)),
            SamplingParams(temperature=0, ignore_eos=True, detokenize=False, max_tokens=max_tokens),
            supported_tasks=self.engine.get_supported_tasks(),
            resumable=resumable,
        )
        self.tokens.setdefault(name, [])
        self.engine.engine_core.add_request(request)

    def wait_for(self, name: str, number: int) -> list[int]:
        """Steps the engine until this request has `number` tokens; returns those."""
        for _ in range(2000):
            if len(self.tokens[name]) >= number:
                return self.tokens[name][:number]
            for output in self.engine.engine_core.get_output().outputs:
                self.tokens[output.request_id] += output.new_token_ids
        raise AssertionError(f"{name} has {len(self.tokens[name])} of {number} tokens")


@pytest.mark.parametrize("at_once", [True, False], ids=["queued", "one by one"])
def test_every_part_is_computed_under_the_largest_set(
    llm: Any, model: TinyModel, at_once: bool
) -> None:
    reference = Reference(model.directory, model.factor_file)
    client = Client(llm)
    before = scheduler(llm).promotions
    names = [f"{number}-{at_once}" for number in range(5)]
    others = dict(zip(names, random_prompts([50, 60, 63, 100, 127]), strict=True))
    for name, prompt in others.items():
        client.send(name, prompt, 20, resumable=False)
    parts, answers = random_prompts([40, 30, 60], seed=9), [10, 20, 30]
    session = f"session-{at_once}"
    if at_once:
        for part, answer in zip(parts, answers, strict=True):
            client.send(session, part, answer, resumable=True)
    kept: list[int] = []
    for number, (part, answer) in enumerate(zip(parts, answers, strict=True)):
        if not at_once:
            client.send(session, part, answer, resumable=True)
        said = client.wait_for(session, sum(answers[: number + 1]))[-answer:]
        reference.expect([*kept, *part], said, starts=2)
        kept += [*part, *said[:-1]]  # vLLM drops the last token, which was never computed
    client.send(session, [3], 1, resumable=False)  # how a client says that it has ended
    for name, prompt in others.items():
        reference.expect(prompt, client.wait_for(name, 20))
    assert scheduler(llm).promotions > before
    assert reference.refused(parts[0], client.tokens[session][:10], 0) > 0
