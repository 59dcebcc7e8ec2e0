"""Prefill on one engine and decode on another, through vLLM's NixlConnector.

Its package is not needed here: the scheduler's side is vLLM's own, and the copies that NIXL makes
between machines are made between the two engines' caches.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch
from longrope_factors.factor_file.schema import save
from longrope_plugin.kv_connectors.handover import KEY

from tests.plugin.conftest import ON_GPU
from tests.plugin.engine import counter, engine, random_prompts, scheduler
from tests.plugin.models import TinyModel, random_factor_file
from tests.plugin.reference import Reference

pytestmark = [
    pytest.mark.both_runners,
    pytest.mark.skipif(ON_GPU, reason="the copies here are a CPU's"),
]


class Copies:
    """The worker's side of NixlConnector, for engines of one process, one after the other."""

    caches: ClassVar[dict[str, list[torch.Tensor]]] = {}  # by engine
    use_host_buffer, copy_blocks, pcp_rank, xfer_handshake_metadata = False, None, 0, None

    def __init__(self, vllm_config: Any, engine_id: str, kv_cache_config: Any) -> None:
        self.engine_id, self.kv_cache_config = engine_id, kv_cache_config
        self.received: set[str] = set()

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        from vllm.v1.kv_cache_interface import group_kernel_blocks

        count = self.kv_cache_config.num_blocks
        self.caches[self.engine_id] = [group_kernel_blocks(c, count) for c in kv_caches.values()]

    def start_load_kv(self, metadata: Any) -> None:
        for name, request in metadata.reqs_to_recv.items():
            (blocks,) = request.local_block_ids or ([],)
            (theirs,) = request.remote.block_ids
            pairs = zip(
                self.caches[self.engine_id], self.caches[request.remote.engine_id], strict=True
            )
            for cache, remote in pairs:
                cache[blocks] = remote[theirs[len(theirs) - len(blocks) :]]
            if request.awaiting_kvs:
                self.received.add(name)

    def get_finished(self) -> tuple[set[str], set[str]]:
        received, self.received = self.received, set()
        return set(), received

    def get_transfer_results(self) -> Any:
        from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults

        return KVConnectorTransferResults(finished_recving=self.get_finished()[1])

    def set_host_xfer_buffer_ops(self, copy_blocks: Any) -> None:
        pass

    def get_block_ids_with_load_errors(self) -> set[int]:
        return set()

    def get_kv_connector_stats(self) -> None:
        return None

    def shutdown(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def copies() -> Iterator[None]:
    nixl = "vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector"
    with mock.patch(f"{nixl}.NixlPullConnectorWorker", Copies):
        yield


def nixl(model: TinyModel, role: str) -> Any:
    from vllm.config import KVTransferConfig

    return engine(
        model, kv_transfer_config=KVTransferConfig(kv_connector="NixlConnector", kv_role=role)
    )


def answers(
    llm: Any, prompts: Sequence[list[int]], counts: Sequence[int], transfers: Sequence[Any]
) -> list[Any]:
    from vllm import SamplingParams, TokensPrompt

    return llm.generate(
        [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts],
        [
            SamplingParams(
                temperature=0,
                ignore_eos=True,
                detokenize=False,
                max_tokens=count,
                extra_args={"kv_transfer_params": transfer},
            )
            for count, transfer in zip(counts, transfers, strict=True)
        ],
        use_tqdm=False,
    )


def prefilled(llm: Any, prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
    """What a router gets from the prefill engine for each prompt, and passes on."""
    outputs = answers(llm, prompts, [1] * len(prompts), [{"do_remote_decode": True}] * len(prompts))
    return [output.kv_transfer_params for output in outputs]


PROMPTS = random_prompts([40, 62, 100, 128], seed=7)
COUNTS = [20, 12, 60, 8]


@pytest.fixture(scope="module")
def transfers(model: TinyModel) -> list[dict[str, Any]]:
    with nixl(model, "kv_producer") as llm:
        return prefilled(llm, PROMPTS)


def test_the_prefill_names_the_set(model: TinyModel, transfers: list[dict[str, Any]]) -> None:
    sets = model.factor_file.sets
    assert [transfer[KEY] for transfer in transfers] == [
        sets[index].fingerprint for index in (0, 0, 1, 1)
    ]


def test_the_decode_goes_on_from_there_through_promotions(
    model: TinyModel, transfers: list[dict[str, Any]]
) -> None:
    reference = Reference(model.directory, model.factor_file)
    with nixl(model, "kv_consumer") as llm:
        outputs = answers(llm, PROMPTS, COUNTS, [dict(transfer) for transfer in transfers])
        for prompt, output in zip(PROMPTS, outputs, strict=True):
            reference.expect(prompt, list(output.outputs[0].token_ids))
        assert counter(llm, "vllm:external_prefix_cache_hits") == sum(map(len, PROMPTS))
        assert scheduler(llm).promotions == 1 + 1 + 1


def test_a_decode_under_another_set_is_refused(
    model: TinyModel, transfers: list[dict[str, Any]], tmp_path: Path
) -> None:
    from vllm.exceptions import VLLMValidationError

    directory = tmp_path / "other"
    shutil.copytree(model.directory, directory)
    other = TinyModel(directory, random_factor_file(32, model.limits, seed=9))
    save(other.factor_file, directory / "longrope_factors.json")
    reference = Reference(other.directory, other.factor_file)
    with nixl(other, "kv_consumer") as llm:
        for transfer in transfers[0], {k: v for k, v in transfers[0].items() if k != KEY}:
            with pytest.raises(VLLMValidationError, match="serve both with longrope, the same"):
                answers(llm, PROMPTS[:1], [4], [dict(transfer)])
        # Past a front end that does not look, the engine computes all of it itself.
        llm.llm_engine.input_processor.longrope_served = None
        (own,) = answers(llm, PROMPTS[:1], [4], [dict(transfers[0])])
        reference.expect(PROMPTS[0], list(own.outputs[0].token_ids))
        assert counter(llm, "vllm:external_prefix_cache_hits") == 0


def test_a_refused_request_still_frees_the_prefills_blocks(
    model: TinyModel, transfers: list[dict[str, Any]]
) -> None:
    """vLLM adds it once more, with another prompt, to end it at once."""
    from vllm import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

    transfer = {**transfers[2], KEY: "another"}
    with nixl(model, "kv_consumer") as llm:
        llm.llm_engine.engine_core.add_request(
            EngineCoreRequest(
                request_id="refused",
                prompt_token_ids=[0],
                mm_features=None,
                sampling_params=SamplingParams(
                    max_tokens=1, extra_args={"kv_transfer_params": transfer}
                ),
                pooling_params=None,
                arrival_time=0.0,
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
                abort_immediately=True,
            )
        )
        assert "refused" in scheduler(llm).connector.connector_scheduler._reqs_need_recv
