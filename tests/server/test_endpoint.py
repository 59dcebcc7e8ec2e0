from types import SimpleNamespace

import pytest
from longrope_server.front_end.endpoint import in_the_foreground
from vllm.exceptions import VLLMValidationError


async def test_a_response_in_the_background_is_refused() -> None:
    async def create(request: SimpleNamespace, raw_request: object) -> str:
        return "answer"

    respond = in_the_foreground(create)
    for background in (False, None):
        assert await respond(SimpleNamespace(background=background), None) == "answer"
    with pytest.raises(VLLMValidationError, match="background is true"):
        await respond(SimpleNamespace(background=True), None)
