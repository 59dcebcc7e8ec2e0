"""An exported Hugging Face config in stock vLLM, without our plug-in: the logits are our file's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from longrope_factors.factor_file import hf
from longrope_factors.formats.two_lists import hf_config

from tests.plugin.engine import random_prompts
from tests.plugin.models import random_factor_file, tiny_model
from tests.plugin.reference import Reference
from tests.serving import WITHOUT_COLLECTIONS

SCRIPT = """
import json, sys
from vllm import LLM, SamplingParams, TokensPrompt
directory, max_model_len, prompts = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
llm = LLM(model=directory, skip_tokenizer_init=True, enforce_eager=True, dtype="float32",
          max_model_len=max_model_len)
outputs = llm.generate(
    [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts],
    SamplingParams(temperature=0, max_tokens=1, logprobs=20, detokenize=False),
    use_tqdm=False,
)
scheduler = llm.llm_engine.engine_core.engine_core.scheduler
print("RESULT", json.dumps([
    type(scheduler).__module__,
    [{t: x.logprob for t, x in output.outputs[0].logprobs[0].items()} for output in outputs],
]))
"""


# Stock vLLM chooses by max_model_len, for every request alike.
@pytest.mark.parametrize(
    ("max_model_len", "index"), [pytest.param(64, 0, marks=pytest.mark.slow), (256, 1)]
)
def test_stock_vllm_gives_our_logits(max_model_len: int, index: int, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", limits=(64, 256))
    factor_file = random_factor_file(32, [64, 256], start_tokens=0)
    config, _ = hf_config(hf.read_config(model.directory), factor_file)
    (model.directory / "config.json").write_text(json.dumps(config))
    prompts = random_prompts([5, 60] if index == 0 else [5, 60, 90, 250])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(model.directory),
            str(max_model_len),
            json.dumps(prompts),
        ],
        env={**os.environ, **WITHOUT_COLLECTIONS, "VLLM_PLUGINS": "", "TORCH_COMPILE_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [
        printed_line
        for printed_line in done.stdout.splitlines()
        if printed_line.startswith("RESULT")
    ]
    scheduler, found = json.loads(line.removeprefix("RESULT"))
    assert scheduler.startswith("vllm.")
    reference = Reference(model.directory, factor_file)
    for prompt, theirs in zip(prompts, found, strict=True):
        ours = reference.logits(prompt, index, 1)[0].log_softmax(-1)
        tokens = [int(token) for token in theirs]
        assert np.allclose(list(theirs.values()), ours[tokens].numpy(), atol=1e-3)
        other = reference.logits(prompt, 1 - index, 1)[0].log_softmax(-1)
        assert not np.allclose(list(theirs.values()), other[tokens].numpy(), atol=1e-1)
