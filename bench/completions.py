"""Completions of random tokens, timed."""

import random
import time

import httpx

WORDS = range(1000, 40_000)  # ordinary tokens of SmolLM2's


def complete(client: httpx.Client, tokens: int, answer: int, seed: int) -> float:
    """Seconds of a completion: a prompt of `tokens` random tokens, and `answer` tokens after it."""
    body = {
        "model": "smollm2-135m",
        "prompt": random.Random(f"{tokens} {answer} {seed}").choices(WORDS, k=tokens),
        "max_tokens": answer,
        "ignore_eos": True,
        "temperature": 0,
    }
    began = time.perf_counter()
    client.post("/v1/completions", json=body).raise_for_status()
    return time.perf_counter() - began
