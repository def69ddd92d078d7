"""Any OpenAI-compatible vision-language endpoint: client, typed outcomes, answer cache, and the questions put to it.

key = api_key(config)                      # in the driver: fails with one line before any work
check_endpoint(config)
vlm = Vlm(config, storage, key)            # in an actor
outcome = vlm.ask(caption.question(to_jpegs(frames, 480, 90), show.characters, context))
outcome.kind, outcome.value, outcome.error
"""

from mimix_ray.vlm.ask import Vlm, ask
from mimix_ray.vlm.batch import Batches, request_line
from mimix_ray.vlm.cache import AnswerCache
from mimix_ray.vlm.client import Client, api_key, check_endpoint
from mimix_ray.vlm.frames import to_jpegs
from mimix_ray.vlm.local import LocalVlm, check_model
from mimix_ray.vlm.outcome import Kind, Outcome, Reply, VlmError
from mimix_ray.vlm.questions import Question, prompt_hash

__all__ = [
    "AnswerCache",
    "Batches",
    "Client",
    "Kind",
    "LocalVlm",
    "Outcome",
    "Question",
    "Reply",
    "Vlm",
    "VlmError",
    "api_key",
    "ask",
    "check_endpoint",
    "check_model",
    "prompt_hash",
    "request_line",
    "to_jpegs",
]
