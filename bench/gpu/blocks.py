"""`python -m bench.gpu.blocks`: which block sizes of the kernel are fastest here.

What `kernel.grid_and_blocks` chooses is one of them. Takes a minute or two, most of it compiling.
"""

import itertools
import sys
from collections.abc import Iterator

import torch
from longrope_plugin.rotation import kernel
from longrope_plugin.rotation.turns import turn_table

from bench.gpu import rotation
from bench.gpu.rotation import Call, Shape, Tokens

HEADS, ELEMENTS, WARPS, PROGRAMS = (2, 4, 8, 16), (512, 1024, 2048), (2, 4, 8), (2048, 4096)
SHOWN = 4
CHOSEN = "chosen"

Times = dict[str, float]


def blocks(shape: Shape) -> Iterator[dict[str, int]]:
    """Arguments of `kernel.launch`."""
    pairs = shape.head_size // 2
    for heads, elements, warps, programs in itertools.product(HEADS, ELEMENTS, WARPS, PROGRAMS):
        yield {
            "block_heads": heads,
            "block_tokens": max(1, elements // (heads * pairs)),
            "num_warps": warps,
            "programs": programs,
        }


def candidates(shape: Shape) -> dict[str, Call]:
    """The kernel in place with each of the sizes, and with those that it chooses itself."""
    table = turn_table(rotation.factor_file(shape))
    tables = table.turns, table.start_tokens, table.attention_factor

    def call(**sizes: int) -> Call:
        def rotate(each: Tokens) -> None:
            both = each.query, each.key
            kernel.launch(each.packed, *both, *both, *tables, shape.head_size, True, **sizes)

        return rotate

    named = {", ".join(f"{k} {v}" for k, v in block.items()): block for block in blocks(shape)}
    return {CHOSEN: call(), **{name: call(**sizes) for name, sizes in named.items()}}


def measure(shape: Shape, tokens: int) -> Times:
    """Seconds of a call, by name; `moved` is that of q and k through memory once."""
    inputs = [Tokens.of(shape, tokens) for _ in range(min(8, shape.calls(tokens)))]
    moved = {"moved": lambda each: rotation.moved_once(each, shape)}
    return rotation.measure({**candidates(shape), **moved}, inputs, missing={})


def main() -> None:
    """Prints the fastest sizes for each shape and number of tokens, and how far off ours are."""
    if kernel.device_type() is None:
        sys.stderr.write("This needs a GPU that Triton can use, and there is none here.\n")
        sys.exit(2)
    kernel.register()
    torch.set_default_device("cuda")
    worst: dict[str, float] = {}
    with torch.inference_mode():
        for shape, tokens in itertools.product(rotation.SHAPES, rotation.TOKENS):
            times = measure(shape, tokens)
            moved = times.pop("moved")
            least = min(times.values())
            for name, seconds in times.items():
                worst[name] = max(worst.get(name, 0), seconds / least)
            ours = times[CHOSEN]
            print(
                f"{shape.name}, {tokens:,} tokens: {ours * 1e6:.2f} us, {ours / least:.2f} of the "
                f"fastest, {ours / moved:.2f} of moving q and k once",
                flush=True,
            )
            for name in sorted(times, key=times.__getitem__)[:SHOWN]:
                print(f"    {times[name] * 1e6:.2f} us: {name}")
    print("\nAt most this much slower than the fastest anywhere:")
    for name in sorted(worst, key=worst.__getitem__)[: 2 * SHOWN]:
        print(f"    {worst[name]:.2f}: {name}")


if __name__ == "__main__":
    main()
