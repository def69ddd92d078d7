"""The run config: one frozen pydantic model a stage, read from YAML and the command line.

Every default is the paper's value (MiMiX, "Character Mixing for Video Generation") where the paper gives one; the
description of each field says where a value comes from. `python jobs/<stage>.py --help` prints all of them.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict


class ConfigError(ValueError):
    """A config that cannot be used; the message is one clear line for the person who wrote it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> dict[str, Any]:
        """The fields that shape results, as JSON values: what a row's recipe is made of. Addresses, worker counts,
        time-outs and the like (`_How`) are left out, so that moving or resizing a run redoes nothing."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            inner = getattr(self, name)
            if field.json_schema_extra == _HOW:
                del values[name]
            elif isinstance(inner, _Part):
                values[name] = inner.identity()
        return values


_HOW: dict[str, Any] = {"shapes_results": False}


def _How(default: Any, **kwargs: Any) -> Any:
    """A field that says how work is done, not what comes out."""
    return Field(default, json_schema_extra=_HOW, **kwargs)


def _whole_latents(frames: int) -> int:
    if frames % 4 != 1:
        raise ValueError(f"{frames} is not 4k+1, which Wan's VAE needs; nearest: {frames // 4 * 4 + 1}")
    return frames


WanFrames = Annotated[int, AfterValidator(_whole_latents)]


class StorageConfig(_Part):
    """Where s3:// addresses are served. Credentials come from the usual AWS chain (environment, profile, role)."""

    endpoint: str | None = Field(None, description="S3 endpoint URL for servers other than AWS, e.g. http://host:8333")
    region: str | None = Field(None, description="S3 region; default: the AWS chain's")


class VlmConfig(_Part):
    """One OpenAI-compatible vision-language endpoint."""

    base_url: str = _How("https://api.openai.com/v1", description="Address of the endpoint, including /v1")
    model: str = Field("gpt-4o", description="Model name sent with each request (paper 3.1: GPT-4o captions)")
    api_key_env: str = _How("OPENAI_API_KEY", description="Name of the environment variable that holds the key")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature; 0 for reproducible answers")
    max_tokens: int = Field(1024, ge=1, description="Longest answer, tokens")
    concurrency: int = _How(32, ge=1, description="Requests in flight, over the whole stage")
    requests_per_minute: float | None = _How(None, gt=0, description="Most requests a minute, over the whole cluster")
    tokens_per_minute: float | None = _How(None, gt=0, description="Most tokens a minute, in and out together")
    max_usd: float | None = _How(None, gt=0, description="Dollars that one job may spend; the rest is left for later")
    prices: dict[str, tuple[float, float]] = _How(
        {
            "gpt-4o": (2.50, 10.00),
            "gpt-4.1": (2.00, 8.00),
            "gemini-2.5-pro": (1.25, 10.00),
            "gemini-2.5-flash": (0.30, 2.50),
        },
        description="Dollars per million tokens, in and out, by model; look at your provider's page",
    )
    timeout_s: float = _How(120.0, gt=0, description="Longest wait for one answer, seconds")
    max_attempts: int = _How(6, ge=1, description="Tries per request on 429, 5xx and timeouts, with back-off")


class CaptionsVlmConfig(VlmConfig):
    """What writes captions: an endpoint, or a model that the stage's own actors hold."""

    backend: Literal["endpoint", "transformers"] = _How(
        "endpoint",
        description="Who answers: the endpoint, or `model` (hub id or folder) by transformers on the stage's own GPUs",
    )
    batch_size: int = _How(8, ge=1, description="Clips that a model of our own answers at once (transformers)")
    batch: bool = _How(
        False,
        description="Ask through the endpoint's Batch API: OpenAI's costs half and takes up to a day",
    )
    batch_poll_s: float = _How(30.0, gt=0, description="Seconds between looks at the batches")
    batch_requests: int = _How(
        50_000,
        ge=1,
        le=50_000,
        description="Most requests a batch (OpenAI: 50,000); fewer where the account may enqueue few tokens",
    )


def _wan_size(size: str) -> str:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if not match or any(int(side) % 16 or int(side) < 16 for side in match.groups()):
        raise ValueError(f"{size!r} is not WIDTHxHEIGHT with sides that are multiples of 16, such as 832x480")
    return size


ClipSize = Annotated[str, AfterValidator(_wan_size)]


class ClipsConfig(_Part):
    """Episodes to clips (paper 3.3: bottom text cropped, scenes cut into 81 frames at 16 fps)."""

    frames: WanFrames = Field(81, ge=5, description="Frames a clip; 4k+1 for Wan's VAE (paper 3.3: 81)")
    fps: int = Field(16, ge=1, le=60, description="Frames a second of a clip (paper 3.3: 16)")
    sizes: tuple[ClipSize, ...] = Field(
        ("832x480", "640x480", "960x416", "480x832"),
        min_length=1,
        description="Sizes a clip may have, WIDTHxHEIGHT pixels, multiples of 16; an episode's clips take the one of "
        "nearest aspect (Wan 480p: 832x480; the others are ours, of about as many pixels)",
    )
    within: Literal["shot", "scene"] = Field(
        "shot",
        description="What a clip may not leave: `shot` keeps every cut out; `scene` lets cuts to what was seen a "
        "moment ago in, and keeps more footage (the paper kept about 90 %)",
    )
    crop_bottom: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="Share of the height cut off the bottom (paper 3.3 removes text there); default: found per episode",
    )
    detector: Literal["adaptive", "content", "dissolve", "transnetv2"] = Field(
        "dissolve", description="What finds shots, a module of clips.detectors (compared in docs/shots.md)"
    )
    threshold: float | None = Field(None, gt=0, description="The detector's threshold; default: the detector's own")
    crf: int = Field(18, ge=0, le=51, description="x264 constant rate factor of the clips; 18 looks lossless")
    preset: str = Field("veryfast", description="x264 preset")

    @property
    def pixel_sizes(self) -> list[tuple[int, int]]:
        """`sizes` as widths and heights."""
        return [(int(width), int(height)) for width, height in (size.split("x") for size in self.sizes)]


class SpeechConfig(_Part):
    """Dialogue of episodes that have no subtitle file, by faster-whisper."""

    model: str | None = Field(
        None,
        description="Whisper model for CTranslate2: a folder that every node sees, or a hub name such as large-v3; "
        "default: none, and such episodes are captioned without dialogue",
    )
    compute_type: str = Field(
        "default", description="CTranslate2's precision, e.g. float16, int8; default: the model's"
    )
    device: Literal["auto", "cpu", "cuda"] = _How("auto", description="auto takes a GPU where there is one")
    workers: int = _How(1, ge=1, description="Actors that hold the model")
    gpus: float = _How(1.0, ge=0, description="GPUs an actor")
    cpus: float = _How(1.0, ge=0, description="CPU cores an actor")


class CaptionsConfig(_Part):
    """Clips to character-action captions by a VLM: Cross-Character Embedding, CCE (paper 3.1)."""

    vlm: CaptionsVlmConfig = CaptionsVlmConfig()
    frames: int = Field(10, ge=1, le=64, description="Frames shown of each clip, evenly spaced (paper 3.1: 10)")
    frame_height: int = Field(480, ge=32, description="Height of the frames sent, pixels; never enlarged")
    jpeg_quality: int = Field(90, ge=30, le=100, description="JPEG quality of the frames sent")
    workers: int = _How(1, ge=1, description="Actors that prepare questions, a core each, and share the requests")
    context_tokens: int = Field(
        1000, ge=0, description="Longest dialogue, script passage and synopsis together, tokens by a careful estimate"
    )
    # Not of every caption's recipe: it shapes those of the episodes that it transcribes, by their transcripts.
    speech: SpeechConfig = _How(SpeechConfig())
    gpus: float = _How(1.0, ge=0, description="GPUs an actor, where it holds the model (vlm.backend transformers)")
    cpus: float = _How(1.0, ge=0, description="CPU cores an actor")


class CompositesConfig(_Part):
    """Characters of one style pasted into the other: Cross-Character Augmentation, CCA (paper 3.2)."""

    vlm: VlmConfig = VlmConfig()
    ratio: float = Field(0.10, ge=0, le=1, description="Composites per original clip (paper 4.3: best of 0 to 0.20)")
    masks: Literal["sam2", "grabcut"] = Field(
        "sam2", description="Mask backend (paper: SAM2; grabcut needs no weights)"
    )
    sam2_path: str = Field(
        "facebook/sam2.1-hiera-large", description="SAM 2.1 weights: hub id or a folder (used by masks=sam2)"
    )
    feather: float = Field(1.5, ge=0, description="Width of the soft edge of a pasted character, pixels")
    min_area: float = Field(0.005, gt=0, lt=1, description="Smallest usable mask, share of the frame")
    max_area: float = Field(0.5, gt=0, le=1, description="Largest usable mask, share of the frame")
    seed: int = Field(0, description="Seed of the choice of subjects, backgrounds and places")
    workers: int = _How(1, ge=1, description="Actors that hold the mask backend")
    gpus: float = _How(1.0, ge=0, description="GPUs an actor")
    cpus: float = _How(1.0, ge=0, description="CPU cores an actor")


class BackboneConfig(_Part):
    """The base model (paper 3.1: Wan2.1-T2V-14B; the method is model-agnostic)."""

    name: Literal["wan"] = Field("wan", description="Backbone family, a module of mimix_ray.backbone")
    path: str = Field("Wan-AI/Wan2.1-T2V-14B-Diffusers", description="Hub id or folder in diffusers layout")
    revision: str | None = Field(None, description="Hub revision to pin")
    dtype: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="Precision of transformer and text encoder")
    device: str = _How("auto", description="auto | cpu | cuda | cuda:N; auto takes a GPU where there is one")
    text_tokens: int = Field(512, ge=8, description="Prompt length in tokens (Wan trains with 512)")
    flow_shift: float = Field(5.0, gt=0, description="Timestep shift of the flow (Wan2.1's generate.py: 5)")


class LatentsConfig(_Part):
    """VAE and text encoder, once, before training."""

    formats: tuple[Literal["full", "no_scene_style", "no_character", "plain"], ...] = Field(
        ("full",), description="Caption formats to encode (paper Table 2 compares all four)"
    )
    workers: int = _How(1, ge=1, description="Actors that hold the VAE, and after it the text encoder")
    gpus: float = _How(1.0, ge=0, description="GPUs an actor")
    cpus: float = _How(1.0, ge=0, description="CPU cores an actor")


class TrainingConfig(_Part):
    """LoRA on the frozen DiT (paper 3.3: rank 32, 5 epochs, Adam 1e-4, batch 64, gradient clipping)."""

    workers: int = _How(8, ge=1, description="Training workers, one GPU each")
    min_workers: int | None = _How(
        None,
        ge=1,
        description="Fewest to go on with while the cluster has no place for more; default: workers",
    )
    gpus: float = _How(1.0, ge=0, description="GPUs a worker; 0 trains on CPU over gloo")
    cpus: float = _How(4.0, ge=0, description="CPU cores a worker")
    strategy: Literal["ddp", "zero1", "zero2", "zero3"] = _How("zero2", description="What is sharded over workers")
    rank: int = Field(32, ge=1, description="LoRA rank (paper 3.3: 32)")
    alpha: int | None = Field(None, ge=1, description="LoRA alpha; default: the rank")
    targets: Literal["attention", "attention_ffn"] = Field(
        "attention_ffn", description="Linears that get LoRA; attention_ffn is what the authors' base trainer uses"
    )
    warm_start: str | None = Field(
        None,
        description="Adapter (.safetensors, path or URI) to begin with, e.g. of another cast; default: a fresh LoRA",
    )
    rehearsal: float | None = Field(
        None,
        ge=0,
        le=10,
        description="With warm_start: clips of the shows that it has learned already, per clip of new shows; "
        "default: every clip alike",
    )
    epochs: int = Field(5, ge=1, description="Passes over the data (paper 3.3: 5)")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimiser steps, whatever the epochs say")
    learning_rate: float = Field(1e-4, gt=0, description="Adam learning rate (paper 3.3: 1e-4)")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate after the warm-up: as it is, or down to 0 at the last step"
    )
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up, optimiser steps")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay (PyTorch's default; not in the paper)")
    batch_size: int = Field(64, ge=1, description="Clips per optimiser step over all workers (paper 3.3: 64)")
    micro_batch: int = Field(
        1, ge=1, description="Clips of one shape that a worker holds at once; the rest is accumulated"
    )
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm (paper 3.3: clipping; 1.0 is ours)")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an average over the steps' weights, published as the adapter"
    )
    caption_format: Literal["full", "no_scene_style", "no_character", "plain"] = Field(
        "full", description="Caption format trained on (paper Table 2: full is best)"
    )
    caption_dropout: float = Field(0.0, ge=0, lt=1, description="Share of samples trained on the empty prompt")
    composite_ratio: float | None = Field(
        None, ge=0, le=1, description="Composites per original clip in the mix; default: all that were made"
    )
    shows: Literal["natural", "balanced"] = Field(
        "natural", description="natural: each clip once an epoch; balanced: as many clips of each show"
    )
    timestep_sampling: Literal["uniform", "logit_normal"] = Field("uniform", description="Distribution of flow times")
    flow_shift: float | None = Field(
        None, gt=0, description="Shift of flow times towards noise, e.g. 1, 3, 5; default: backbone.flow_shift"
    )
    weighting: Literal["none", "bell", "sigma_sqrt", "cosmap"] = Field(
        "none", description="Weight of the loss by flow time: bell as DiffSynth-Studio's, the others as SD3's"
    )
    gradient_checkpointing: bool = _How(True, description="Recompute activations in the backward pass to save memory")
    attention: str | None = _How(
        None, description="Attention backend of diffusers, e.g. flash, _flash_3; default: its own"
    )
    compile: bool = _How(False, description="Compile the transformer's blocks (torch.compile); pays on long runs")
    prefetch: int = _How(8, ge=1, description="Samples that each worker reads ahead")
    held_out: int = Field(0, ge=0, description="Clips set aside to measure the loss on, never trained on")
    held_out_every: int = _How(100, ge=1, description="Optimiser steps between measures of the held-out loss")
    sample_every: int | None = _How(
        None, ge=1, description="Optimiser steps between sample videos of the first prompts; default: none are made"
    )
    sample_prompts: int = _How(4, ge=1, description="How many of generation.prompts are sampled")
    checkpoint_every: int = _How(100, ge=1, description="Optimiser steps between checkpoints")
    keep_checkpoints: int = _How(3, ge=1, description="Checkpoints kept, beside the one of least held-out loss")
    max_failures: int = _How(
        3,
        ge=0,
        description="Failures survived by restarting from the last checkpoint; preempted nodes do not count",
    )
    step_timeout_s: float = _How(
        1800.0, gt=0, description="A worker that ends no step for so long is taken for hung, and restarted"
    )
    wandb: str | None = _How(None, description="Weights & Biases project to log to as well (needs the package wandb)")
    seed: int = Field(0, description="Seed of LoRA's start, the order of samples, noise and times")

    @model_validator(mode="after")
    def _fewest_is_not_most(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        return self


class GenerationConfig(_Part):
    """Prompts to videos, in batches, with the trained adapter."""

    prompts: str = _How("configs/prompts/mimix.yaml", description="YAML list of prompts: cast, actions, scene style")
    adapter: str | None = _How(None, description="Adapter (.safetensors, path or URI); default: the run's own")
    use_adapter: bool = Field(True, description="False generates with the bare base model")
    frames: WanFrames = Field(81, ge=1, description="Frames a video, 4k+1")
    fps: int = Field(16, ge=1, le=60, description="Frames a second")
    width: int = Field(832, ge=16, multiple_of=16, description="Width, pixels")
    height: int = Field(480, ge=16, multiple_of=16, description="Height, pixels")
    steps: int = Field(50, ge=1, le=200, description="Denoising steps (Wan's default: 50)")
    guidance: float = Field(5.0, ge=0, le=30, description="Classifier-free guidance scale (Wan's default: 5)")
    negative_prompt: str = Field("", description="What to steer away from")
    seed: int = Field(0, ge=0, description="Seed of the first video; each prompt adds its place in the list")
    workers: int = _How(1, ge=1, description="Actors that hold the pipeline")
    gpus: float = _How(1.0, ge=0, description="GPUs an actor")
    cpus: float = _How(1.0, ge=0, description="CPU cores an actor")


class EvaluationConfig(_Part):
    """Videos to scores: weight-free metrics and the VLM judge's four axes (paper 4.1)."""

    vlm: VlmConfig = VlmConfig(model="gpt-4o", temperature=0.3)
    frames: int = Field(8, ge=2, le=64, description="Frames shown to the judge (the authors' scorer names 8)")
    samples: int = Field(3, ge=1, description="Times each question is put to the judge; the mean and spread are kept")
    metrics: tuple[str, ...] = Field(
        ("temporal_flicker", "flow_dynamics"), description="Weight-free video metrics, modules of evaluation.metrics"
    )


class ServingConfig(_Part):
    """A request to an mp4: Ray Serve application."""

    database: str | None = Field(None, description="SQLAlchemy URL of the job store; default: SQLite in the root")
    adapter: str | None = Field(None, description="Adapter (.safetensors, path or URI); default: the run's own")
    api_keys_env: str = Field(
        "MIMIX_API_KEYS", description="Environment variable with accepted keys, comma-separated; unset: open to all"
    )
    max_queued: int = Field(200, ge=1, description="Jobs that may wait; more are answered 429")
    max_frames: int = Field(161, ge=1, description="Longest video that may be asked for, frames")
    max_pixels: int = Field(1280 * 720, ge=256, description="Largest frame that may be asked for, pixels")
    max_steps: int = Field(100, ge=1, description="Most denoising steps that may be asked for")
    max_prompt_chars: int = Field(4000, ge=1, description="Longest prompt, characters")


class RunConfig(_Part):
    """One run: footage in, an adapter, videos and scores out."""

    name: str = Field("mimix", description="Name of the run, for reports and logs")
    root: str = Field(
        "runs/mimix", description="Where the run's tables, videos and reports go: a folder or s3://bucket/prefix"
    )
    universe: str = Field("configs/universes/mimix.yaml", description="The universe file: shows, characters, footage")
    storage: StorageConfig = StorageConfig()
    clips: ClipsConfig = ClipsConfig()
    captions: CaptionsConfig = CaptionsConfig()
    composites: CompositesConfig = CompositesConfig()
    backbone: BackboneConfig = BackboneConfig()
    latents: LatentsConfig = LatentsConfig()
    training: TrainingConfig = TrainingConfig()
    generation: GenerationConfig = GenerationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()


def load(path: str | Path | None = None, arguments: Sequence[str] = (), program: str = "mimix_ray") -> RunConfig:
    """The config of a run: paper defaults, overridden by a YAML file, overridden by dotted arguments.

    Args:
        path: YAML file with any part of `RunConfig`; None for the defaults alone.
        arguments: Command line such as `["--clips.fps", "12"]`. `--help` prints every field and exits.
        program: Name shown by `--help`.

    Raises:
        ConfigError: On an unknown key (names the nearest), a value out of range, or a file that cannot be read.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    where = str(path) if path is not None else "config"
    known = dict(_fields(RunConfig))
    _refuse_unknown_keys(values, RunConfig, "", where)
    _refuse_unknown_flags(arguments, known)

    class CommandLine(BaseSettings, RunConfig):
        model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_hide_none_type=True, cli_avoid_json=True)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            command_line = CliSettingsSource[Any](settings_cls, cli_prog_name=program, cli_parse_args=list(arguments))
            return command_line, init_settings

    CommandLine.__doc__ = RunConfig.__doc__
    try:
        settings = CommandLine(**values)
        return RunConfig(**{name: getattr(settings, name) for name in RunConfig.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {key}: {first['msg']} (given: {first['input']!r})") from None


def from_command_line(arguments: Sequence[str] | None = None, program: str | None = None) -> RunConfig:
    """What every job begins with: `--config FILE` and dotted overrides, read from `sys.argv` by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    path = None
    for index, argument in enumerate(given):
        if argument == "--config" or argument.startswith("--config="):
            if "=" in argument:
                path, given[index : index + 1] = argument.split("=", 1)[1], []
            elif index + 1 < len(given):
                path, given[index : index + 2] = given[index + 1], []
            else:
                raise ConfigError("--config: give the path of a YAML file, e.g. --config configs/miniature.yaml")
            break
    return load(path, given, program or f"{Path(sys.argv[0]).name} --config FILE")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys such as 'clips:', not a {type(values).__name__}")
    return {key: value for key, value in values.items() if not str(key).startswith("x-")}


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel] | None]]:
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        yield prefix + name, inner
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _refuse_unknown_keys(values: Any, model: type[BaseModel], prefix: str, where: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {prefix.rstrip('.')}: must hold keys, not {values!r}")
    for key, value in values.items():
        if key not in model.model_fields:
            raise ConfigError(
                f"{where}: unknown key {prefix + str(key)!r}: {_nearest(str(key), list(model.model_fields))}"
            )
        inner = _model_of(model.model_fields[key].annotation)
        if inner is not None:
            _refuse_unknown_keys(value, inner, f"{prefix}{key}.", where)


def _refuse_unknown_flags(arguments: Sequence[str], known: dict[str, type[BaseModel] | None]) -> None:
    for argument in arguments:
        name = argument[2:].split("=", 1)[0]
        if argument.startswith("--") and name not in known and name != "help":
            raise ConfigError(f"unknown option {argument!r}: {_nearest(name, list(known))}")
