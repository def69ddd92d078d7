"""Filters that ffmpeg puts decoded frames through: their time, their place, their colours. For `video.py` alone."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mimix_ray.video import Probe

PixelFormat = Literal["rgb24", "yuv420p"]
"""How frames cross the pipe: `rgb24` is [H, W, 3]; `yuv420p` is [H * 3 / 2, W], the planes Y, U, V one after another
(OpenCV's I420), half the bytes and untouched by a colour conversion."""

Size = tuple[int, int]
"""Width, height in pixels."""


HD_HEIGHT = 720
"""Pixels; a file of this height or more that names no colour matrix is taken for BT.709, as players do."""

HDR = {16: "smpte2084", 18: "arib-std-b67"}
"""Transfer functions of HDR as ISO 23091 numbers them, PQ and HLG, by ffmpeg's names."""

# Weaves the two half pictures of frames that are flagged interlaced; all others pass as they are.
DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"


def even(value: float) -> int:
    return max(2, round(value / 2) * 2)


def timing(offset_s: float, fps: float | None) -> list[str]:
    """Filters that begin at `offset_s` of what is read and, with `fps`, show what is displayed at each tick."""
    # Time stamps are rounded to the container's clock (1 ms in Matroska); a tick shows frames that begin up to 2 ms
    # after it, so that rounding never makes a frame one tick late.
    shift = round(offset_s * 1e6) + (2000 if fps is not None else -2000)
    begin = ["settb=AVTB", f"setpts=PTS-({shift})"]
    if fps is None:
        return [*begin, "trim=start_pts=0"]
    return [*begin, f"fps={Fraction(fps).limit_denominator(1001)}:start_time=0:round=up"]


def picture(
    size: Size | None, crop: tuple[int, int, int, int] | None, pixel_format: PixelFormat, source: Probe | None
) -> list[str]:
    """Filters that crop, scale and convert."""
    unnamed = source is not None and source.matrix == 2 and source.height >= HD_HEIGHT
    chain = ["setparams=colorspace=bt709"] if unnamed else []
    if source is not None:  # also when the picture changes its size midway, whatever it has where we begin
        chain.append(f"scale={source.width}:{source.height},setsar=1")
    elif crop is not None or size is None:  # a crop counts displayed pixels; with `size` alone one scaling does both
        chain.append("scale=w='if(eq(sar,1)+eq(sar,0),iw,max(2,round(iw*sar/2)*2))':h=ih,setsar=1")
    if crop is not None:
        x, y, width, height = crop
        # At even places: with colour at half the resolution ffmpeg takes wrong bytes at odd ones of 10-bit frames.
        chain.append(f"crop={width}:{height}:{x // 2 * 2}:{y // 2 * 2}:exact=1")
    if source is not None and source.transfer in HDR:
        chain += _tone_map(HDR[source.transfer], size)
    scale = f"w={size[0]}:h={size[1]}" if size is not None else "w=iw:h=ih"
    target = ":out_color_matrix=bt709:out_range=tv" if pixel_format == "yuv420p" else ""
    return [*chain, f"scale={scale}:flags=bicubic+accurate_rnd{target}", f"format={pixel_format}"]


def _tone_map(transfer: str, size: Size | None) -> list[str]:
    """Filters from HDR to SDR, as ffmpeg's documentation of `tonemap` has them; scaled first, which saves time."""
    smaller = f"w={size[0]}:h={size[1]}:" if size is not None else ""
    return [
        f"zscale={smaller}f=bicubic:tin={transfer}:min=2020_ncl:pin=2020:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=709",
        "tonemap=hable:desat=0",
        "zscale=t=709:m=709:r=limited",
        "format=yuv420p",
    ]
