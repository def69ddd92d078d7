"""Says what a video file is, as JSON on stdout. Run by `video.probe` in a process of its own, never imported.

It decodes a few frames: only a decoded frame tells the real size, rotation and pixel format, and a file of which not
even one frame decodes is no video. A demuxer or decoder that crashes here takes this process down and nothing else.
"""

import json
import sys
from contextlib import suppress
from itertools import islice

import av

LOOKED_AT = 5
"""Frames decoded: some interlaced films begin with progressive ones."""
PACKETS = 600
"""Packets in which the first frames must be: the longest groups of pictures last some ten seconds."""


def main(path: str) -> dict[str, object]:
    with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
        # A cover picture is a video stream too, of one frame that is attached to the file.
        attached = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & attached]
        if not streams:
            return {"error": "no_video_stream"}
        stream = streams[0]
        audio = bool(container.streams.audio)
        frames: list[av.VideoFrame] = []
        # A recording may begin in the middle of a group of pictures: its first packets do not decode.
        for packet in islice(container.demux(stream), PACKETS):
            with suppress(av.error.FFmpegError):
                frames.extend(packet.decode())
            if len(frames) >= LOOKED_AT:
                break
        if not frames:
            return {"error": "undecodable"}
        frame = frames[0]
        begin = container.start_time / av.time_base if container.start_time is not None else 0.0
        if stream.duration is not None and stream.time_base is not None:
            start = float((stream.start_time or 0) * stream.time_base)
            end = start + float(stream.duration * stream.time_base)
        else:
            end = begin + (container.duration or 0) / av.time_base
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        return {
            "width": frame.width,
            "height": frame.height,
            "aspect": float(aspect) if aspect else 1.0,
            "rotation": frame.rotation % 360,
            "fps": float(stream.average_rate or stream.guessed_rate or 0),
            "duration_s": max(0.0, end - begin),
            "frames": stream.frames or None,
            "codec": stream.codec_context.codec.name,
            "pix_fmt": frame.format.name,
            "matrix": int(frame.colorspace),
            "transfer": int(frame.color_trc),
            "interlaced": any(frame.interlaced_frame for frame in frames),
            "seekable": container.format.name != "mpegts",
            "audio": audio,
        }


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1])))
    except av.error.FFmpegError as error:
        print(json.dumps({"error": "not_a_video", "detail": error.strerror or str(error)}))
