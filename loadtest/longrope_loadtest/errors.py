"""The one error that a user of `longrope loadtest` sees."""


class UsageError(Exception):
    """Something that was asked for and cannot be done; the message is one sentence."""
