"""Videos → their frames, one after the other, by OpenCV's FFmpeg.

Letters: H and W rows and columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from sign_ensemble.core.opencv_module import opencv
from sign_ensemble.data.images import SetAside
from sign_ensemble.data.square_pictures import Pixels

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm"})
# FFmpeg's messages are for programmers, and a file may not send it to the network.
SETTINGS = {
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",
}


def is_video(path: PurePath) -> bool:
    """Whether a file is a video by its ending."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def count_frames(path: Path) -> int:
    """How many frames can be decoded, at least one; what the file says of it may be wrong.

    Raises:
        SetAside: it cannot be read, or has no frame.
    """
    with _opened(path) as video:
        count = 0
        while video.grab():
            count += 1
    if not count:
        raise SetAside("a video without a frame that can be decoded")
    return count


def frames_of(path: Path, first: int, count: int) -> Iterator[Pixels]:
    """So many frames (H, W, 3) from the one with index ``first``, upright.

    Those before it are decoded too: seeking is not exact in every format.

    Raises:
        SetAside: the video cannot be read.
    """
    cv2 = opencv()
    with _opened(path) as video:
        for number in range(first + count):
            if not video.grab():
                return
            if number >= first:
                yield cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    cv2 = opencv()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        path.open("rb").close()
    except OSError as fault:
        raise SetAside(f"cannot be read: {fault.strerror}") from fault
    video = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise SetAside("a video that cannot be opened: damaged, or of an unknown codec")
        yield video
    finally:
        video.release()
