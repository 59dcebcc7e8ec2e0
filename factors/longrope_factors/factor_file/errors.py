"""The one error that users of factor files see."""


class FactorFileError(ValueError):
    """A factor file or model config that cannot be used; the message is one sentence."""
