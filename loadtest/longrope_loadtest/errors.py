"""The only error that users of `longrope loadtest` see."""


class UsageError(Exception):
    """A request that cannot be fulfilled; the message is one sentence."""
