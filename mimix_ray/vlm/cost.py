"""What a request costs: tokens before it is sent, dollars by the config's price table."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mimix_ray.config import VlmConfig
from mimix_ray.vlm.questions.question import Question
from mimix_ray.vlm.tokens import estimate_tokens

MESSAGE_TOKENS = 20
"""What the protocol adds to a message: roles, and around each image its number."""

BATCH_PRICE = 0.5
"""Share of the usual price that a batch costs (OpenAI, "Batch API")."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    tokens_in: float
    tokens_out: float

    def usd(self, tokens_in: float, tokens_out: float) -> float:
        """Dollars for so many tokens."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


def price_of(config: VlmConfig) -> Price | None:
    """The price of the config's model, also under a dated name such as `gpt-4o-2024-08-06`; None: not in the table."""
    undated = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", config.model)
    found = config.prices.get(config.model) or config.prices.get(undated)
    return Price(*found) if found else None


def image_tokens(width: int, height: int) -> int:
    """Tokens of one image, as OpenAI counts them for GPT-4o at high detail.

    Shrunk to fit 2048 x 2048, then to 768 on the shorter side; 85 tokens, and 170 for each tile of 512 x 512 (OpenAI,
    "Images and vision", calculating costs). Other models count otherwise: OpenAI's own small ones many times more.

    >>> image_tokens(832, 480)
    425
    """
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    return 85 + 170 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def question_tokens(question: Question[Any]) -> int:
    """About how many tokens a question is, rather too many than too few; all its frames have the first one's size."""
    images = 0
    if question.frames:
        with Image.open(io.BytesIO(question.frames[0])) as image:
            images = len(question.frames) * (image_tokens(*image.size) + MESSAGE_TOKENS)
    return estimate_tokens(question.text) + estimate_tokens(str(question.schema)) + images + MESSAGE_TOKENS
