"""Frames of videos: which, how late, how often, and what is said of files that hold none."""

from __future__ import annotations

import doctest
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from emu2eval.data.samples import Samples
from emu2eval.errors import ImageError, MissingExtra
from emu2eval.fewshot.draw import Exclusion
from emu2eval.identity import request_key
from emu2eval.media import frames, images
from emu2eval.types import Image, Prompt, Sample, Segment, TextOutput, Video

SIZE = 32


def film(path: Path, count: int = 32, codec: str = "mpeg4") -> Path:
    """Frame i is grey of brightness 7 i: an image tells its place."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for place in range(count):
            grey = np.full((SIZE, SIZE, 3), 7 * place, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())
    return path


def places(path: Path, count: int) -> list[int]:
    shown = (images.load(frame) for frame in Video.sampled(str(path), count).frames)
    return [round(np.asarray(image).mean() / 7) for image in shown]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(frames).failed == 0


@pytest.mark.parametrize(("ending", "codec"), [("avi", "mpeg4"), ("mp4", "mpeg4"), ("mkv", "h264")])
def test_frames_are_the_middles_of_equal_parts(tmp_path: Path, ending: str, codec: str) -> None:
    path = film(tmp_path / f"a.{ending}", codec=codec)
    assert places(path, 16) == list(range(1, 32, 2))
    assert places(path, 1) == [16]


def test_a_short_video_shows_frames_twice(tmp_path: Path) -> None:
    assert places(film(tmp_path / "a.mp4", 3), 6) == [0, 0, 1, 1, 2, 2]


def test_a_video_is_decoded_once_for_all_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mp4")
    decoded = []
    pick = frames._pick
    monkeypatch.setattr(frames, "_pick", lambda *a: decoded.append(a) or pick(*a))
    assert places(path, 8) == places(path, 8)
    assert len(decoded) == 1
    film(path, 16)  # another video of that name
    assert places(path, 8) == list(range(1, 16, 2))


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on, opening a video fails."""

    def refuse() -> None:
        def fail(path: str) -> None:
            raise AssertionError(f"{path} is opened")

        monkeypatch.setattr(frames, "_opened", fail)

    return refuse


def test_digests_keys_and_exclusion_decode_nothing(
    tmp_path: Path, undecoded: Callable[[], None]
) -> None:
    path = film(tmp_path / "a.mp4")
    copy = Path(shutil.copy(path, tmp_path / "b.mp4"))
    other = film(tmp_path / "c.mp4", 31)
    undecoded()
    one, same, another = (Video.sampled(str(p), 4) for p in (path, copy, other))
    digests = [images.digest(frame) for frame in one.frames]
    assert digests == [images.digest(frame) for frame in same.frames]
    assert len({*digests, *(images.digest(frame) for frame in another.frames)}) == 8
    # The same place among more frames is another moment.
    assert images.digest(Video.sampled(str(path), 5).frames[0]) != digests[0]
    keys = [request_key(Prompt(query=(v, "?")), TextOutput(), "") for v in (one, same, another)]
    assert keys[0] == keys[1] != keys[2]
    query = Sample("q", images=(one,))
    assert Exclusion(query).refuses(Sample("p", images=(same,)))
    assert not Exclusion(query).refuses(Sample("p", images=(another,)))


def test_samples_keep_a_video_as_its_path(undecoded: Callable[[], None]) -> None:
    undecoded()
    whole = Sample("a", images=(Video.sampled("/data/a.mp4", 16),))
    cut = Sample("b", images=(Video(whole.images[0].frames[:3]), Image("/x/c.mp4", frame=(1, 4))))  # type: ignore[union-attr]
    packed = Samples([whole, cut], where="here")
    assert list(packed) == [whole, cut]
    assert len(packed._packed[0]) < 40
    moved = Sample("a", images=(Video.sampled("/elsewhere/a.mp4", 16),))
    fewer = Sample("a", images=(Video.sampled("/data/a.mp4", 8),))
    digests = [Samples([s, cut], where="here").digest for s in (whole, moved, fewer)]
    assert digests[0] == digests[1] != digests[2]


def test_a_frame_has_a_size_and_bytes_like_any_image(tmp_path: Path) -> None:
    frame = Video.sampled(str(film(tmp_path / "a.mp4")), 4).frames[1]
    info = images.info(frame)
    assert (info.width, info.height, info.format) == (SIZE, SIZE, "video")
    stored = Image(data=images.read(frame))
    assert images.load(stored).tobytes() == images.load(frame).tobytes()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("ending", "damage", "says"),
    [
        ("avi", cut, "frames"),
        ("mp4", cut, "damaged"),
        ("mp4", lambda path: path.write_bytes(b""), "not a video"),
        ("mp4", lambda path: path.write_text("<html>not found</html>"), "not a video"),
        ("avi", lambda path: path.unlink(), "does not exist"),
    ],
    ids=["cut-avi", "cut-mp4", "empty", "html", "missing"],
)
def test_files_that_hold_no_frames(
    tmp_path: Path, ending: str, damage: Callable[[Path], object], says: str
) -> None:
    path = film(tmp_path / f"a.{ending}")
    damage(path)
    with pytest.raises(ImageError, match=says) as caught:
        images.load(Image(str(path), frame=(0, 4)))
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_a_sound_file_has_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ImageError, match="contains no images"):
        images.load(Image(str(path), frame=(0, 4)))


def test_without_pyav_the_extra_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mp4")
    frames._require.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="decoding video needs the package 'av'") as caught:
        images.digest(Image(str(path), frame=(0, 4)))
    assert caught.value.hint == "pip install 'emu2eval[video]'"


def test_a_frame_is_of_a_file() -> None:
    with pytest.raises(ValueError, match="path of its video"):
        Image(data=b"x", frame=(0, 4))


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0, 1, -1, 0), (-1, 0)),  # a quarter to the right, as phones held upright film
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (0, -1)),
        ((-1, 0, 0, 1), (-1, 0)),
        ((1, 0, 0, -1), (0, -1)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, -1, -1, 0), (-1, -1)),
        ((1, 0, 0, 1), (0, 0)),
    ],
)
def test_frames_of_a_film_that_lies_on_its_side_stand_upright(
    tmp_path: Path, matrix: tuple[int, ...], corner: tuple[int, int]
) -> None:
    path, (a, b, c, d) = tmp_path / "phone.mp4", (65536 * number for number in matrix)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stored = np.zeros((32, 48, 3), dtype=np.uint8)
        stored[:16, :16] = 255  # the corner that is left and on top as stored
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored)))
        container.mux(stream.encode())
    data = path.read_bytes()
    unturned = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    at = data.index(unturned, data.index(b"tkhd"))
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    (frame,) = Video.sampled(str(path), 1).frames
    (timed,) = Video.sampled(str(path), 1, Segment(0.0, 0.1)).frames
    for each in (frame, timed):
        shown = images.load(each)
        assert shown.size == ((48, 32) if a else (32, 48))
        assert images.info(each).upright == shown.size
        bright = np.asarray(shown.convert("L")) > 128
        assert (bright[corner[1], corner[0]], bright.sum() // 100) == (True, 2)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{film}'\n",
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path: Path, text: str) -> None:
    other = film(tmp_path / "other.mp4")
    path = tmp_path / "a.mp4"
    path.write_text(text.format(film=other.name))
    with pytest.raises(ImageError, match="not a video"):
        frames.size(str(path))


def test_frames_larger_than_any_camera_makes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mp4")
    monkeypatch.setattr(frames, "MAX_PIXELS", SIZE * SIZE - 1)
    with pytest.raises(ImageError, match=f"{SIZE} x {SIZE} pixels"):
        frames.size(str(path))
