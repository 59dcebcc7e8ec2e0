"""Reads a PDF in a process of its own, because a hostile one may take hours or all memory."""

import asyncio
import os
import resource
import sys
from contextlib import suppress

from longrope_server.documents.document import text_of_pdf
from longrope_server.errors import UsageError

SECONDS = 60
MEMORY = 2 << 30
REFUSED = 2  # the exit status after a sentence on stderr


async def text_of_pdf_apart(content: bytes, shown: str, largest: int) -> str:
    """What `text_of_pdf` returns, or raises, and no more than `largest` bytes of it in UTF-8.

    The process ends if this is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__, shown),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SECONDS):
            with suppress(ConnectionError):  # it has ended early, and has said why
                process.stdin.write(content)
                await process.stdin.drain()
                process.stdin.close()
            text = b""
            while part := await process.stdout.read(1 << 20):
                text += part
                if len(text) > largest:
                    raise UsageError(
                        f"{shown} has more than {largest:,} bytes of text, which is what the "
                        "longest prompt that is served here can take."
                    )
            said = await process.stderr.read()
            status = await process.wait()
    except TimeoutError:
        raise _too_much(shown) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    if status == REFUSED:
        raise UsageError(said.decode().strip())
    if status != 0:
        raise _too_much(shown)
    return text.decode()


def _too_much(shown: str) -> UsageError:
    return UsageError(
        f"{shown} takes more than {SECONDS} seconds or {MEMORY >> 30} GiB to read as a PDF: give "
        "its text."
    )


def main() -> None:
    """Reads a PDF on stdin, writes its text to stdout, and an error's sentence to stderr."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # whoever waits for a token goes first
    try:
        text = text_of_pdf(sys.stdin.buffer.read(), sys.argv[1])
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
    sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
    main()
