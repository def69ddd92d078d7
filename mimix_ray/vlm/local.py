"""A vision-language model in this process: `transformers` on the actor's own GPUs, for clusters without a server."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

from PIL import Image

from mimix_ray.config import CaptionsVlmConfig
from mimix_ray.storage import Storage
from mimix_ray.vlm.cache import AnswerCache
from mimix_ray.vlm.outcome import Outcome, Reply, VlmError
from mimix_ray.vlm.questions.question import Question

T = TypeVar("T")


def check_model(config: CaptionsVlmConfig) -> None:
    """Before any work: raises VlmError unless `config.model` has what is needed, on disk or on the hub.

    Fetches small files only, no weights.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, AutoProcessor
    from transformers.utils.hub import has_file

    try:
        model = AutoConfig.from_pretrained(config.model)
        if type(model) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ValueError(f"a {model.model_type} does not look at images and answer")
        if AutoProcessor.from_pretrained(config.model).chat_template is None:
            raise ValueError("it has no chat template")
        if not any(has_file(config.model, name) for name in ("model.safetensors", "model.safetensors.index.json")):
            raise ValueError("it has no weights in model.safetensors")
    except (OSError, ValueError) as error:
        raise _unusable(config, error) from None


class LocalVlm:
    """One model with its answer cache, asked as `Vlm` is: any thread may ask, the model answers a batch at a time.

    Make it where it is used (in an actor). The JSON schema is part of the prompt; nothing holds the model to it.
    """

    def __init__(self, config: CaptionsVlmConfig, storage: Storage) -> None:
        """Loads the model, in the precision of its weights, over the GPUs that this process sees, else on the CPU.

        Answers are kept in `storage`. Raises VlmError when the model cannot be loaded.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._config = config
        self._cache = AnswerCache(storage)
        self._lock = threading.Lock()
        try:
            self._processor: Any = AutoProcessor.from_pretrained(config.model)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(
                config.model, dtype="auto", device_map="auto"
            )
        except (OSError, ValueError) as error:
            raise _unusable(config, error) from None
        ends = self._model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])

    def ask(self, question: Question[T]) -> Outcome[T]:
        """One question's outcome."""
        return self.ask_all([question])[0]

    def ask_all(self, questions: Sequence[Question[T]]) -> list[Outcome[T]]:
        """Every question's outcome, in the questions' order; only what has no kept answer is computed.

        Raises StorageError when the cache cannot be read or written.
        """
        keys = [question.key(self._config.model, self._config.temperature) for question in questions]
        kept = {key: self._cache.get(key, self._config.max_tokens) for key in keys}
        replies = {key: reply for key, reply in kept.items() if reply is not None}
        todo = [(key, one) for key, one in zip(keys, questions, strict=True) if key not in replies]
        size = self._config.batch_size
        for batch in (todo[start : start + size] for start in range(0, len(todo), size)):
            with self._lock:
                answers = self._answer([question for _, question in batch])
            for (key, _), reply in zip(batch, answers, strict=True):
                replies[key] = reply
                if reply.final:
                    self._cache.put(key, self._config.max_tokens, reply)
        return [question.read(replies[key]) for key, question in zip(keys, questions, strict=True)]

    def close(self) -> None:
        """Lets go of the model."""
        del self._model

    def _answer(self, questions: Sequence[Question[Any]]) -> list[Reply]:
        """Replies to one batch; one that fails is split, so that a question fails alone."""
        try:
            return self._generate(questions)
        except Exception as error:  # no memory, a prompt longer than the model takes, a frame it cannot use
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        # Out here the failed batch's tensors are free again.
        if len(questions) == 1:
            error_text = f"the model failed ({what}); where memory is short, lower captions.frames or frame_height"
            return [Reply("endpoint_error", error=error_text, calls=1)]
        half = len(questions) // 2
        return self._answer(questions[:half]) + self._answer(questions[half:])

    def _generate(self, questions: Sequence[Question[Any]]) -> list[Reply]:
        inputs = self._processor.apply_chat_template(
            [_conversation(question) for question in questions],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},  # answers follow on their prompts
        ).to(self._model.device, self._model.dtype)
        temperature = self._config.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        made_BL = self._model.generate(**inputs, max_new_tokens=self._config.max_tokens, **sampling)
        tokens_in = inputs["attention_mask"].sum(1).tolist()
        answers = made_BL[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._reply(*one) for one in zip(answers, tokens_in, strict=True)]

    def _reply(self, answer: list[int], tokens_in: int) -> Reply:
        """What one row of new tokens says: up to the first end, or cut off when there is none."""
        end = next((place for place, token in enumerate(answer) if token in self._ends), None)
        text = self._processor.decode(answer[:end], skip_special_tokens=True)
        if end is None:
            why = "the answer reached vlm.max_tokens; raise it"
            return Reply("truncated", text, why, tokens_in, len(answer), calls=1)
        return Reply("ok", text, None, tokens_in, end + 1, calls=1)


def _conversation(question: Question[Any]) -> list[dict[str, Any]]:
    """The question's messages in transformers' form: images as such, none encoded in base64."""
    frames = iter(question.frames)

    def part(given: dict[str, Any]) -> dict[str, Any]:
        return {"type": "image", "image": Image.open(io.BytesIO(next(frames)))} if "image_url" in given else given

    messages = question.messages(schema_in_text=True)
    return [message | {"content": [part(one) for one in message["content"]]} for message in messages]


def _unusable(config: CaptionsVlmConfig, error: Exception) -> VlmError:
    what = " ".join(str(error).split())[:300]
    return VlmError(
        f"vlm.model {config.model!r} cannot be used by vlm.backend transformers ({what}); "
        "give the hub id or the folder of an image-text-to-text model"
    )
