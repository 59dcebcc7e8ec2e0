"""The one kind of error that a user of the `longrope factors` commands sees."""


class UsageError(ValueError):
    """Something that was asked for and cannot be done; the message is one sentence."""


class FactorFileError(UsageError):
    """A factor file or model config that cannot be used."""
