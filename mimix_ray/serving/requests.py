"""From the body of `POST /v1/videos` to a video's parameters: decoded, checked, snapped to what the model can do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from mimix_ray.prompts import Caption, CharacterAction, PromptError, check, parse, render
from mimix_ray.run import Run
from mimix_ray.synthesis import Parameters
from mimix_ray.universe import Style, clean


class BadRequest(ValueError):
    """A request that cannot become a video: what is wrong, and with which parameter."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.code = param, code


class CastMember(BaseModel):
    """One character and what it does."""

    model_config = ConfigDict(extra="forbid")
    character: str
    action: str


class VideoRequest(BaseModel):
    """The body of `POST /v1/videos`: OpenAI's fields and ours, as JSON or as a form."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    prompt: str = Field("", description="Text, plain or tagged: [Character: Name], action. [scene-style:cartoon]")
    cast: list[CastMember] = Field([], description="Who acts, in order; `prompt` then tells where it plays")
    scene_style: Style | None = Field(None, description="cartoon | realistic")
    model: str | None = Field(None, description="A model of /v1/models; default: the one there is")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels, snapped to multiples of 16")
    seconds: Annotated[float, Field(gt=0)] | None = Field(None, description="Length; `num_frames` is the exact way")
    num_frames: Annotated[int, Field(ge=1)] | None = Field(None, description="Frames, snapped down to 4k+1")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, validation_alias=AliasChoices("steps", "num_inference_steps"), description="Denoising steps"
    )
    guidance: Annotated[float, Field(ge=0, le=30)] | None = Field(
        None, validation_alias=AliasChoices("guidance", "guidance_scale"), description="Classifier-free guidance scale"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(None, description="Seed of the noise; default: drawn")
    negative_prompt: str | None = Field(None, description="What to steer away from")

    @field_validator("cast", mode="before")
    @classmethod
    def _cast_as_text(cls, value: Any) -> Any:
        """A form may carry the cast as one field of JSON."""
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("not a list of {character, action}") from None
        return value


@dataclass(frozen=True)
class Order:
    """A request that can be made."""

    parameters: Parameters
    ignored: tuple[str, ...]
    """Fields of the request that mean nothing here; told to the client, so that a typing error shows."""


def nest(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Form fields as the JSON that the openai client made them from.

    >>> nest([("seed", "1"), ("lora[name]", "x"), ("tags[]", "a"), ("tags[]", "b")])
    {'seed': '1', 'lora': {'name': 'x'}, 'tags': ['a', 'b']}
    >>> nest([("cast[][name]", "Pip"), ("cast[][name]", "Momo"), ("cast[][age]", "1"), ("cast[][age]", "4")])
    {'cast': [{'name': 'Pip', 'age': '1'}, {'name': 'Momo', 'age': '4'}]}

    The last form says "list of objects" by columns; columns of unequal length cannot be put together: BadRequest.
    """
    columns: dict[str, list[Any]] = {}
    for key, value in items:
        columns.setdefault(key, []).append(value)
    body: dict[str, Any] = {}
    lists: dict[str, dict[str, list[Any]]] = {}
    for key, values in columns.items():
        name, bracket, rest = key.partition("[")
        path = rest.rstrip("]").split("][") if bracket and rest.endswith("]") else []
        if not path:
            body[key] = values[-1]
        elif path == [""]:
            body[name] = values
        elif len(path) == 2 and path[0] == "":
            lists.setdefault(name, {})[path[1]] = values
        elif len(path) == 1 and isinstance(body.setdefault(name, {}), dict):
            body[name][path[0]] = values[-1]
        else:
            raise BadRequest(f"the form field {key!r} is nested in a way that is not understood; send JSON", name)
    for name, fields in lists.items():
        if len({len(values) for values in fields.values()}) != 1:
            raise BadRequest(f"{name}: each entry needs the same fields ({', '.join(fields)}); send JSON", name)
        body[name] = [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)]
    return body


def settle(body: Any, run: Run) -> Order:
    """The parameters of the video that a request's body asks for; raises BadRequest, which names the parameter."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object or a form")
    if isinstance(body.get("extra_body"), dict):  # raw-JSON clients send the Python client's argument as it is
        body = {**body, **body["extra_body"]}
        del body["extra_body"]
    try:
        request = VideoRequest.model_validate({key: value for key, value in body.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where}: {first['msg'].removeprefix('Value error, ')}", where.split(".")[0]) from None
    defaults, limits = run.config.generation, run.config.serving
    # Before anything is parsed: what is too long must cost nothing.
    for name in ("prompt", "negative_prompt", "cast"):
        if (length := len(str(getattr(request, name) or ""))) > 2 * limits.max_prompt_chars:
            raise BadRequest(f"{name}: {length} characters are over the limit of {limits.max_prompt_chars}", name)
    if request.model not in (None, run.config.name):
        raise BadRequest(
            f"model {request.model!r} is not served here; known: {run.config.name}", "model", "model_not_found"
        )
    width, height = _size(request.size, limits.max_pixels) if request.size else (defaults.width, defaults.height)
    parameters = Parameters(
        prompt=_prompt(request, run),
        negative_prompt=clean(defaults.negative_prompt if request.negative_prompt is None else request.negative_prompt),
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        frames=_frames(request, defaults.fps, defaults.frames, limits.max_frames),
        fps=defaults.fps,
        width=width,
        height=height,
        steps=request.steps or defaults.steps,
        guidance=defaults.guidance if request.guidance is None else request.guidance,
    )
    if parameters.steps > limits.max_steps:
        raise BadRequest(f"steps: {parameters.steps} is over this server's limit of {limits.max_steps}", "steps")
    for name in ("prompt", "negative_prompt"):
        if (length := len(getattr(parameters, name))) > limits.max_prompt_chars:
            raise BadRequest(f"{name}: {length} characters are over the limit of {limits.max_prompt_chars}", name)
    return Order(parameters, tuple(sorted(request.model_extra or {})))


def _prompt(request: VideoRequest, run: Run) -> str:
    """The text for the model, in the format it was taught in, its characters known and called by their names."""
    try:
        said = parse(request.prompt) if request.prompt.strip() else Caption()
        if request.cast and said.characters:
            raise BadRequest("the characters stand both in `prompt` and in `cast`; tell them in one of them", "cast")
        if request.scene_style and said.scene_style not in (None, request.scene_style):
            raise BadRequest("`prompt` and `scene_style` name different styles; tell it in one of them", "scene_style")
        cast = tuple(CharacterAction(one.character, one.action) for one in request.cast) or said.characters
        caption = check(Caption(cast, said.setting, request.scene_style or said.scene_style), run.universe)
    except PromptError as error:
        raise BadRequest(str(error), "cast" if request.cast else "prompt", "invalid_prompt") from None
    text = render(caption, run.config.training.caption_format)
    if not caption.characters and not caption.setting:
        raise BadRequest("the prompt is empty; give a text, or a cast of characters with actions", "prompt")
    # The grammar has no place for a setting beside characters; what the person wrote is not dropped for that.
    return f"{caption.setting}. {text}" if caption.characters and caption.setting else text


def _size(size: str, max_pixels: int) -> tuple[int, int]:
    """`size` snapped to multiples of 16, at least 16: eightfold by the VAE, twofold by the DiT's patches."""
    sides = size.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise BadRequest(f"size: {size[:40]!r} is not WIDTHxHEIGHT, e.g. 832x480", "size")
    width, height = (max(16, round(int(side) / 16) * 16) for side in sides)
    if width * height > max_pixels:
        raise BadRequest(f"size: {width}x{height} is over this server's limit of {max_pixels} pixels", "size")
    return width, height


def _frames(request: VideoRequest, fps: int, default: int, limit: int) -> int:
    """Frames, snapped down to 4k+1: the VAE makes the first frame alone and the others in fours."""
    if request.num_frames is not None:
        frames = (request.num_frames - 1) // 4 * 4 + 1
    elif request.seconds is not None:
        # The first frame comes on top: 5 seconds at 16 a second are Wan's 81 frames.
        frames = int(min(request.seconds, 1e6) * fps) // 4 * 4 + 1
    else:
        frames = default
    if frames > limit:
        raise BadRequest(f"num_frames: {frames} is over this server's limit of {limit}", "num_frames")
    return frames
