"""Empty the server's prefix cache before a run."""

import time

import httpx

from longrope_loadtest.errors import UsageError
from longrope_loadtest.run.direct import direct

ROUTE = "/reset_prefix_cache"  # of vLLM in development mode
SECONDS = 10  # for which blocks of requests that have just ended may still be held


def reset(url: str, key: str | None) -> None:
    """Empty the prefix cache of the server at `url`.

    Raises:
        UsageError: The server cannot be asked to, or has not done it.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    deadline = time.monotonic() + SECONDS
    while not _is_reset(url, headers):
        if time.monotonic() > deadline:
            raise UsageError(
                f"The server at {url} did not empty its prefix cache within {SECONDS} s: other "
                "requests are running on it."
            )
        time.sleep(0.2)


def _is_reset(url: str, headers: dict[str, str]) -> bool:
    try:
        answer = httpx.post(f"{url}{ROUTE}", headers=headers, timeout=SECONDS, **direct())
    except httpx.HTTPError as error:
        raise UsageError(f"The server at {url} did not answer {ROUTE}: {error}.") from error
    if answer.status_code in (404, 405):
        raise UsageError(
            f"The server at {url} has no {ROUTE}, which --reset-cache needs: vLLM and `longrope "
            "serve` have it if they are started with VLLM_SERVER_DEV_MODE=1."
        )
    if answer.status_code != 200:
        raise UsageError(f"The server at {url} answered {ROUTE} with {answer.status_code}.")
    # Older versions of vLLM answer with an empty body.
    return b'"success":false' not in answer.content.replace(b" ", b"")
