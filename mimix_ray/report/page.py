"""What every page of a run shares: how templates become HTML, and a colour a character."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mimix_ray.universe import Universe


def render(template: str, **data: Any) -> bytes:
    """The HTML file of a template, named by its path in the package; all data is escaped."""
    environment = Environment(
        loader=PackageLoader("mimix_ray", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(data).encode()


def hues(universe: Universe) -> dict[str, int]:
    """A hue (degrees, 0..359) a character, by its place in the universe: the same on every page and in every run."""
    # The golden angle keeps neighbours in the cast apart, however many there are.
    return {name: round(30 + index * 137.5) % 360 for index, name in enumerate(universe.names)}
