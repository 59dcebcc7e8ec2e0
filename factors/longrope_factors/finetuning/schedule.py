"""The learning rate of each step."""


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up to `peak` over `warmup` steps, then linear decay to 0 at `steps`.

    `step` counts from 0. LongRoPE, arXiv 2402.13753, section 4.1.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (steps - step) / (steps - warmup)
