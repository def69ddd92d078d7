"""How many tokens a text may be, without any model's tokenizer."""

from __future__ import annotations

BYTES_PER_TOKEN = 3
"""UTF-8 bytes a token, less than tokenizers reach: English has 4 to 5 (names and odd spellings fewer), Chinese and
Japanese about 3, as a character is 3 bytes."""


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is to a vision-language model, rather too many than too few; 0 for "".

    Endpoints differ in their tokenizers and most do not say which, so it is an estimate: prose is usually a quarter to
    a half less, long runs of digits, which some tokenizers take one by one, are up to three times more.

    >>> estimate_tokens("Where is that cat?")
    6
    """
    return -(-len(text.encode("utf-8", errors="replace")) // BYTES_PER_TOKEN)
