"""Frames of a part of a video, in seconds or in frames, with and without jumping there."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from emu2eval.data.samples import Samples
from emu2eval.errors import ImageError
from emu2eval.media import frames, images
from emu2eval.types import Sample, Segment, Video


def film(path: Path, count: int = 36, codec: str = "mpeg4", every: int = 12) -> Path:
    """Ten frames a second, a keyframe every `every`; frame i is grey of brightness 7 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.gop_size = every
        for place in range(count):
            grey = np.full((32, 32, 3), 7 * place, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())
    return path


def places(path: Path, count: int, segment: Segment | None) -> list[int]:
    shown = (images.load(frame) for frame in Video.sampled(str(path), count, segment).frames)
    return [round(np.asarray(image).mean() / 7) for image in shown]


@pytest.mark.parametrize(("ending", "codec"), [("avi", "mpeg4"), ("mp4", "mpeg4"), ("mkv", "h264")])
@pytest.mark.parametrize("every", [1, 12, 250])
def test_seconds_and_frames_name_the_same_images(
    tmp_path: Path, ending: str, codec: str, every: int
) -> None:
    path = film(tmp_path / f"a.{ending}", codec=codec, every=every)
    assert places(path, 5, Segment(20, 30, in_frames=True)) == [21, 23, 25, 27, 29]
    # On the screen at 2.15 s … is the frame that came at 2.1 s.
    assert places(path, 5, Segment(2.05, 3.05)) == [21, 23, 25, 27, 29]


def test_where_jumping_lands_too_late_it_is_decoded_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, jumps = film(tmp_path / "a.mp4"), []
    real = frames._shown_at

    def late(path: str, wanted: list[float], *, jump: bool) -> object:
        jumps.append(jump)
        return None if jump else real(path, wanted, jump=False)

    monkeypatch.setattr(frames, "_shown_at", late)
    assert places(path, 2, Segment(2.05, 3.05)) == [23, 28]
    assert jumps == [True, False]


def test_a_segment_ends_with_its_video(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    assert places(path, 2, Segment(26, 90, in_frames=True)) == [28, 33]
    assert places(path, 2, Segment(2.61, 4.1)) == [29, 35]


@pytest.mark.parametrize(
    ("segment", "says"),
    [
        (Segment(36, 90, in_frames=True), "36 frames, none in the segment 36 to 90"),
        (Segment(20.0, 30.0), "it ends at 3.5 s"),
    ],
)
def test_a_video_that_ends_before_the_segment_is_named(
    tmp_path: Path, segment: Segment, says: str
) -> None:
    path = film(tmp_path / "a.mp4")
    with pytest.raises(ImageError, match=says) as caught:
        places(path, 2, segment)
    assert caught.value.where == str(path)


def test_segments_have_identities_of_their_own(tmp_path: Path) -> None:
    path = str(film(tmp_path / "a.mp4", 4))
    kinds = (None, Segment(0, 3), Segment(0, 3, in_frames=True), Segment(0, 2))
    digests = {images.digest(Video.sampled(path, 4, kind).frames[0]) for kind in kinds}
    assert len(digests) == 4
    samples = [
        Sample(str(n), images=(Video.sampled("/x/a.mp4", 4, kind),)) for n, kind in enumerate(kinds)
    ]
    loose = Sample("9", images=(Video.sampled("/x/a.mp4", 4, kinds[1]).frames[2],))
    packed = Samples([*samples, loose], where="here")
    assert list(packed) == [*samples, loose]
    assert [v.source for s in packed for v in s.images if isinstance(v, Video)] == [
        ("/x/a.mp4", 4, kind) for kind in kinds
    ]
