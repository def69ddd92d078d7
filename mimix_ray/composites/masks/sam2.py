"""Masks by SAM 2.1's video predictor (Ravi et al. 2024), the paper's choice: boxes as prompts, propagated both ways."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2_video_predictor
from torch.nn import functional

from mimix_ray.composites.masks import Box, MaskError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What SAM 2's image encoder was trained with, per channel RGB of pictures in 0..1 (sam2/utils/misc.py)."""


class Sam2:
    """Holds the predictor; what it remembers of a clip is freed with the clip."""

    def __init__(self, predictor: Any) -> None:
        """`predictor` is a `sam2.sam2_video_predictor.SAM2VideoPredictor` on the device that shall do the work."""
        self._predictor = predictor
        predictor.fill_hole_area = 0  # needs a CUDA extension that the package on PyPI comes without

    @classmethod
    def load(cls, path: str) -> Sam2:
        """The predictor with weights from the hub or from disk, on a GPU where there is one.

        Args:
            path: Hub id ("facebook/sam2.1-hiera-large"), a checkpoint file, or a folder that holds one; files keep
                the names that the authors gave them, as they tell the size of the model.

        Raises:
            MaskError: The weights are not there.
        """
        config, repository, file = _which(path)
        try:
            checkpoint = file if repository is None else Path(hf_hub_download(repository, file.name))
        except (OSError, HfHubHTTPError) as error:
            raise MaskError(_missing(path, error)) from None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(build_sam2_video_predictor(config, str(checkpoint), device=device))

    def masks(self, frames: np.ndarray, boxes: Mapping[int, Box]) -> np.ndarray:
        """As `Masker.masks`."""
        height, width = frames.shape[1:3]
        masks = np.zeros(frames.shape[:3], bool)
        with torch.inference_mode(), self._precision():
            state = self._state(frames)
            for frame, box in boxes.items():
                corners = np.array(box, np.float32) * np.array([width, height] * 2, np.float32)
                self._predictor.add_new_points_or_box(state, frame_idx=frame, obj_id=1, box=corners)
            for backwards in (False, True):
                for frame, _, logits_1CHW in self._predictor.propagate_in_video(state, reverse=backwards):
                    masks[frame] = (logits_1CHW[0, 0] > 0).cpu().numpy()
        return masks

    def _state(self, frames: np.ndarray) -> dict[str, Any]:
        """The predictor's memory of a clip. Its own way in is a folder of JPEGs or a decoder that we do not install:
        it gets one picture that way, then the frames as they are."""
        with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
            Image.fromarray(frames[0]).save(Path(folder, "0.jpg"))
            state: dict[str, Any] = self._predictor.init_state(folder)
        size, device = self._predictor.image_size, self._predictor.device
        mean, deviation = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, DEVIATION))
        images_FCSS = torch.empty(len(frames), 3, size, size, device=device)
        for index, frame in enumerate(frames):
            image_1CHW = torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255
            scaled = functional.interpolate(image_1CHW, (size, size), mode="bilinear", antialias=True)
            images_FCSS[index] = (scaled[0] - mean) / deviation
        state.update(images=images_FCSS, num_frames=len(frames), cached_features={})
        return state

    def _precision(self) -> AbstractContextManager[Any]:
        cuda = torch.device(self._predictor.device).type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext()


def find(path: str) -> None:
    """Raises MaskError when the weights are neither on this machine nor on the hub; downloads nothing."""
    _, repository, file = _which(path)
    try:
        if repository is not None:
            hf_hub_download(repository, file.name, dry_run=True)
    except (OSError, HfHubHTTPError) as error:
        raise MaskError(_missing(path, error)) from None


def _which(path: str) -> tuple[str, str | None, Path]:
    """The model's config in the sam2 package, its repository on the hub (None: on disk) and its checkpoint."""
    if path in HF_MODEL_ID_TO_FILENAMES:
        config, name = HF_MODEL_ID_TO_FILENAMES[path]
        return config, path, Path(name)
    configs = {name: config for config, name in HF_MODEL_ID_TO_FILENAMES.values()}
    given = Path(path)
    for file in sorted(given.glob("*.pt")) if given.is_dir() else [given]:
        if file.name in configs and file.is_file():
            return configs[file.name], None, file
    raise MaskError(_missing(path, f"no such file; known names: {', '.join(configs)}"))


def _missing(path: str, why: object) -> str:
    what = " ".join(str(why).split())[:300]
    return (
        f"SAM 2 weights {path!r} cannot be had ({what}); set composites.sam2_path to a folder with e.g. "
        "sam2.1_hiera_large.pt, or composites.masks to grabcut"
    )
