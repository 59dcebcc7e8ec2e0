"""The one error that a user of the `longrope` command sees."""


class UsageError(ValueError):
    """Something that was asked for and cannot be done; the message is one sentence."""
