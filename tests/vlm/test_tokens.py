"""The estimate of tokens by which context is trimmed and a run is priced."""

import pytest

from mimix_ray.vlm.tokens import estimate_tokens


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("cat", 1), ("cats", 2), ("猫", 1), ("é", 1)])
def test_three_bytes_are_a_token_and_what_is_begun_counts(text, tokens):
    assert estimate_tokens(text) == tokens


def test_parts_are_never_estimated_less_than_the_whole():
    parts = ["Where is that cat?", "Über den Zaun!", "猫は壁に沿って歩く"]
    assert sum(map(estimate_tokens, parts)) >= estimate_tokens("".join(parts))


def test_what_is_no_unicode_is_estimated_all_the_same():
    assert estimate_tokens("\ud800 half a pair") > 0
