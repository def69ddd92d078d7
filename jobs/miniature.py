"""Makes what the miniature needs before its first stage: its episodes, and its tiny base model with random weights.

    python jobs/miniature.py --config configs/miniature.yaml

What is there already is kept.
"""

import sys
from pathlib import Path

from mimix_ray.config import ConfigError, RunConfig, from_command_line
from mimix_ray.miniature.base import build
from mimix_ray.miniature.episodes import write_episodes

SECONDS = 34.0
"""Length of an episode: five shots of a clip each, with every cast once. Rendering it takes about half a minute."""


def prepare(config: RunConfig) -> None:
    """Renders the two shows into `<root>/footage` and saves the tiny Wan where the config expects its base model."""
    if "://" in config.root:
        raise ConfigError(f"root {config.root!r}: the miniature is rendered into a local folder")
    write_episodes(Path(config.root) / "footage", seconds=SECONDS)
    build(Path(config.backbone.path))


if __name__ == "__main__":
    try:
        prepare(from_command_line())
    except ConfigError as error:
        sys.exit(f"error: {error}")
