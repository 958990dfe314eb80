"""Images that travel to another node: whoever reads their bytes compares them with what was promised."""

from __future__ import annotations

import base64
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emu2eval import types
from emu2eval.errors import ImageError
from emu2eval.media import frames, images
from emu2eval.types import Image, Prompt, Request, Segment, TextOutput, Turn, Video
from tests.media.test_frames import film
from tests.media.test_images import SMALL, encoded

ONE, OTHER = (
    encoded(image, "PNG").ljust(1 << 12, b"\0") for image in (SMALL, SMALL.rotate(180))
)  # as long as each other


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[[Image], Image]:
    """An image as it comes out of a pickle that the node `head` made, on the node `worker`."""

    def sent(image: Image) -> Image:
        for node in ("head", "worker"):
            for module in (types, images):
                monkeypatch.setattr(module, "this_node", lambda node=node: node)
            if node == "head":
                data = pickle.dumps(image)
        arrived = pickle.loads(data)
        assert isinstance(arrived, Image)
        assert images.digest(arrived) == images.digest(image)
        return arrived

    return sent


def in_parquet(path: Path, data: bytes) -> Image:
    pq.write_table(pa.table({"image": [{"bytes": b""}, {"bytes": data}]}), path)
    return Image(str(path), member="image/0/1")


def in_table(path: Path, data: bytes) -> Image:
    text = base64.b64encode(data)
    path.write_bytes(b"7\t" + text + b"\n")
    return Image(str(path), member=f"base64/2/{len(text)}")


def in_archive(path: Path, data: bytes) -> Image:
    path.write_bytes(b"head" + data)
    return Image(str(path), member=f"tar:4/{len(data)}")


def alone(path: Path, data: bytes) -> Image:
    path.write_bytes(data)
    return Image(str(path))


def of_video(path: Path, data: bytes) -> Image:
    path.write_bytes(data)  # what is no longer the same is not decoded
    return Image(str(path), frame=(1, 4), segment=Segment(0, 2))


KINDS = [alone, in_parquet, in_table, in_archive, of_video]


@pytest.mark.parametrize("kind", KINDS)
def test_another_content_on_another_node_is_told(
    tmp_path: Path, send: Callable[[Image], Image], kind: Callable[[Path, bytes], Image]
) -> None:
    image = kind(tmp_path / "a", ONE)
    images.digest(image)
    kind(tmp_path / "a", OTHER)
    promised = image._digest or images.digest(image)
    arrived = send(image)
    for use in (images.read, images.load, images.confirm):
        with pytest.raises(ImageError) as told:
            use(arrived)
        assert "is not the one that the request was made with on head" in told.value.what
        assert told.value.what.endswith(f", not {promised}")
        assert "copy the data to this node (worker)" in (told.value.hint or "")
        assert str(tmp_path / "a") in (told.value.where or "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("there", [None, b"", b"rubbish"])
def test_a_node_without_the_file_is_told_to_get_it(
    tmp_path: Path,
    send: Callable[[Image], Image],
    kind: Callable[[Path, bytes], Image],
    there: bytes | None,
) -> None:
    image = kind(tmp_path / "a", ONE)
    images.digest(image)
    (tmp_path / "a").unlink()
    if there is not None:
        (tmp_path / "a").write_bytes(there)
    with pytest.raises(ImageError) as told:
        images.load(send(image))
    assert "copy the data to this node (worker)" in (told.value.hint or "")
    assert "head" in (told.value.hint or "")


@pytest.mark.parametrize("kind", KINDS[:4])
def test_the_same_content_is_shown(
    tmp_path: Path, send: Callable[[Image], Image], kind: Callable[[Path, bytes], Image]
) -> None:
    image = kind(tmp_path / "a", ONE)
    images.digest(image)
    arrived = send(image)
    assert images.read(arrived) == ONE
    assert images.info(arrived) == images.info(image)
    images.confirm(arrived)


def test_a_video_is_hashed_once_for_all_its_frames(
    tmp_path: Path, send: Callable[[Image], Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Video.sampled(str(film(tmp_path / "a.mp4")), 4)
    shown = [images.load(frame).tobytes() for frame in video.frames]
    for frame in video.frames:
        images.digest(frame)
    frames._digest.cache_clear()
    monkeypatch.setattr(frames, "files", lambda: Forgetful())
    arrived = [send(frame) for frame in video.frames]
    assert [images.load(frame).tobytes() for frame in arrived] == shown
    assert frames._digest.cache_info().misses == 1


class Forgetful:
    def recall(self, *_: object) -> None: ...
    def keep(self, *_: object) -> None: ...


def test_requests_travel_without_pixels_and_caches(tmp_path: Path) -> None:
    """Demonstrations, a film of 16 frames and a query: paths and one digest a file."""
    shown = [alone(tmp_path / f"COCO_train2014_{n:012}.png", ONE + bytes(n)) for n in range(5)]
    film = Video.sampled(str(tmp_path / "COCO_train2014_000000000001.png"), 16)
    turns = tuple(Turn((one, "Question: what is it? Short answer:"), ("a set",)) for one in shown)

    def size(*query: Image | Video) -> int:
        prompt = Prompt((*query, "Question: what is it? Short answer:"), turns[:4])
        request = Request("a" * 64, prompt, TextOutput())
        for image in prompt.images():
            images.digest(image)
        before = len(pickle.dumps(request, 5))
        for image in prompt.images():
            if image.frame is None:
                images.load(image)
        data = pickle.dumps(request, 5)
        assert len(data) == before
        names = {str(arg) for op, arg, _ in pickletools.genops(data) if "UNICODE" in op.name}
        assert not any("PIL" in name or "numpy" in name for name in names)
        assert pickle.loads(data) == request
        return before - 5 * len(str(tmp_path))

    assert size(shown[4]) < 1500
    assert size(film) - size(shown[4]) < 1000
