"""The questions put to a vision-language model, each a module with its versioned prompt file beside it."""

from mimix_ray.vlm.questions.question import Question, prompt_hash

__all__ = ["Question", "prompt_hash"]
