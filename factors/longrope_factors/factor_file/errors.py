"""The only kind of error that users of the `longrope factors` commands see."""


class UsageError(ValueError):
    """A request that cannot be fulfilled; the message is one sentence."""


class FactorFileError(UsageError):
    """A factor file or model config that cannot be used."""
