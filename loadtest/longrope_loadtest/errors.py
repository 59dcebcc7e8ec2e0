"""What a user can mend: one sentence, status 2."""


class LoadTestError(Exception):
    """The profile, the server's address or an option is wrong; it says what would be right."""
