"""Names for the facts of a document, drawn from a seed."""

from pathlib import Path
from random import Random

from longrope_factors.factor_file.files import strict_json

_WORDS = strict_json.read(Path(__file__).with_name("words.json"))
# Kinds of things, with some things of each kind.
KINDS: list[list[str]] = _WORDS["kinds"]
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def pair(random: Random) -> str:
    """An adjective and a noun, as 'amber-falcon'."""
    return f"{random.choice(_WORDS['adjectives'])}-{random.choice(_WORDS['nouns'])}"


def invented(random: Random) -> str:
    """An invented word of three syllables, one of 343,000."""
    return "".join(random.choice(_CONSONANTS) + random.choice(_VOWELS) for _ in range(3))


def number(random: Random) -> str:
    """A number of seven digits, as in RULER."""
    return str(random.randint(1_000_000, 9_999_999))
