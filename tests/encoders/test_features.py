"""Features are made once, kept through a kill, and noticed when they are not what was written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from safetensors import safe_open

from emu2eval.encoders import features
from emu2eval.encoders.base import Encoder, Thumbnail, Vectors, build_encoder
from emu2eval.encoders.features import FeatureCache
from emu2eval.errors import ConfigError, ImageError, ModelError, PartError
from emu2eval.media import images
from emu2eval.types import Image


class Counting(Thumbnail):
    """Counts what it encodes, four at a time."""

    batch = 4

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        self.encoded += len(prepared)
        assert len(prepared) <= self.batch
        return super().encode(prepared)


def squares(first: int, count: int) -> dict[str, Image]:
    found = {}
    for number in range(first, first + count):
        image = images.from_pil(PILImage.new("RGB", (20, 20), (number % 256, number // 256, 100)))
        found[images.digest(image)] = image
    return found


def test_each_image_is_encoded_once(tmp_path: Path) -> None:
    encoder = Counting()
    first, both = squares(0, 10), squares(0, 25)
    told: list[tuple[int, int]] = []
    assert FeatureCache(encoder).fill(first, lambda what, *count: told.append(count)) == 10
    assert told == [(4, 10), (8, 10), (10, 10)]
    store = FeatureCache(encoder)
    before = store.vectors(list(first))
    assert store.fill(both) == 15
    assert encoder.encoded == 25
    again = FeatureCache(Counting())
    assert again.fill(both) == 0
    assert (again.vectors(list(first)) == before).all()
    # Small files become one.
    (file,) = again.folder.glob("images-*.safetensors")
    with safe_open(file, "numpy") as stored:
        assert stored.get_tensor("features").shape == (25, 768)
        named = {row.tobytes().hex() for row in stored.get_tensor("digests")}
    assert named == set(both)


def test_vectors_are_those_of_the_encoder_at_unit_length() -> None:
    wanted = squares(0, 6)
    store = FeatureCache(Counting())
    store.fill(wanted)
    plain = np.stack([Thumbnail().prepare(image) for image in wanted.values()])
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(store.vectors(list(wanted)), plain, atol=2e-4)
    backwards = list(wanted)[::-1]
    assert (store.vectors(backwards) == store.vectors(list(wanted))[::-1]).all()


def test_their_digest_depends_on_nothing_but_them() -> None:
    small, large = squares(0, 5), squares(0, 9)
    store = FeatureCache(Counting())
    store.fill(small)
    digest = store.digest(small)
    store.fill(large)
    assert FeatureCache(Counting()).digest(reversed(list(small))) == digest
    assert store.digest(large) != digest


SLOW = """
import sys, time
from emu2eval.encoders import features
from tests_of_features import Counting, squares

class Slow(Counting):
    def encode(self, prepared):
        time.sleep(0.02)
        return super().encode(prepared)

features.WRITE_EVERY = 0
features.FeatureCache(Slow()).fill(squares(0, 400), lambda what, done, total: print(done, flush=True))
"""


def test_a_kill_loses_nothing_that_was_told(tmp_path: Path) -> None:
    (tmp_path / "tests_of_features.py").write_text(Path(__file__).read_text())
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    told = 0
    while told < 20:
        told = int(process.stdout.readline())
    process.kill()
    process.communicate()
    store = FeatureCache(Counting())
    assert told <= len(store) < 400
    kept = list(set(squares(0, 400)).intersection(d for d in squares(0, 400) if d in store))
    before = store.vectors(kept)
    encoder = Counting()
    again = FeatureCache(encoder)
    assert again.fill(squares(0, 400)) == encoder.encoded == 400 - len(store)
    assert (again.vectors(kept) == before).all()


def test_what_another_process_made_meanwhile_is_not_made_again() -> None:
    late, wanted = FeatureCache(Counting()), squares(0, 6)
    assert FeatureCache(Counting()).fill(wanted) == 6
    assert late.fill(wanted) == 0 and len(late) == 6
    more = FeatureCache(Counting())
    assert late.fill(squares(0, 8)) == 2
    assert more.fill(squares(0, 9)) == 1


class Fussy(Thumbnail):
    """Takes no image."""

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        raise ValueError("7 x 7 (sic) does not match\nmore of it")


def test_what_an_encoder_raises_is_told_in_a_sentence() -> None:
    with pytest.raises(PartError, match=r"'thumbnail' failed: ValueError: 7 x 7 \(sic\) does not"):
        FeatureCache(Fussy()).fill(squares(0, 2))


def test_what_came_before_a_broken_image_is_kept() -> None:
    wanted = squares(0, 10)
    broken = Image(data=b"not an image")
    with pytest.raises(ImageError):
        FeatureCache(Counting()).fill({**wanted, "ab" * 32: broken})
    encoder = Counting()
    assert FeatureCache(encoder).fill(wanted) == 2
    assert encoder.encoded == 2


class Narrow(Counting):
    """Takes no image of an odd number: seen while preparing, or while encoding."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late = late

    def prepare(self, image: Image) -> Any:
        found = super().prepare(image)
        return found if self.late else self._taken(found)

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        return super().encode([self._taken(each) for each in prepared])

    def _taken(self, found: Any) -> Any:
        if int(found[0] + 127.5) % 2:
            raise ImageError("too narrow")
        return found


@pytest.mark.parametrize("late", [False, True])
def test_images_that_an_encoder_cannot_take_are_passed_over_where_that_is_wanted(
    late: bool,
) -> None:
    wanted = squares(0, 10)
    digests = list(wanted)
    refused: dict[str, ImageError] = {}
    store = FeatureCache(Narrow(late))
    assert store.fill(wanted, refused=refused) == 5
    assert sorted(refused) == sorted(digests[1::2])
    assert store.vectors(digests[::2]).shape[0] == 5
    with pytest.raises(ImageError, match="too narrow"):
        store.fill(wanted)


def test_a_joining_that_was_cut_short_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureCache(Counting())
    with monkeypatch.context() as patched:
        patched.setattr(features, "WRITE_EVERY", 0)
        patched.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        store.fill(squares(0, 12))
    assert len(list(store.folder.glob("*.safetensors"))) == 4
    again = FeatureCache(Counting())
    assert len(again) == 12
    again.fill(squares(0, 13))
    assert len(list(store.folder.glob("*.safetensors"))) == 1
    assert len(FeatureCache(Counting())) == 13


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign", "shape", "head"])
def test_a_damaged_file_is_computed_again(damage: str) -> None:
    store = FeatureCache(Counting())
    store.fill(squares(0, 5))
    before = store.digest(squares(0, 5))
    (file,) = store.folder.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    content = {
        "flipped": bytes(data),
        "cut": bytes(data[:-100]),
        "empty": b"",
        "foreign": b"\x02\0\0\0\0\0\0\0{}",
        "shape": file.read_bytes().replace(b'"shape":[5,', b'"shape":[9,'),
        "head": b"\xff" * 8 + file.read_bytes()[8:],
    }
    assert content[damage] != file.read_bytes()
    file.write_bytes(content[damage])
    again = FeatureCache(Counting())
    assert len(again) == 0
    said: list[str] = []
    assert again.fill(squares(0, 5), lambda what, done, total: said.append(what)) == 5
    assert "damaged" in said[0]
    assert again.digest(squares(0, 5)) == before
    assert len(FeatureCache(Counting())) == 5
    assert len(list(store.folder.glob("*.safetensors"))) == 1


def test_another_encoder_reuses_nothing() -> None:
    class Other(Counting):
        def identity(self) -> dict[str, Any]:
            return {**super().identity(), "version": 2}

    FeatureCache(Counting()).fill(squares(0, 3))
    other = FeatureCache(Other())
    assert len(other) == 0
    assert other.fill(squares(0, 3)) == 3
    record = json.loads((other.folder / "encoder.json").read_text())
    assert record == {"name": "thumbnail", "encoder": "thumbnail", "version": 2}


def test_texts_are_kept_apart_from_images() -> None:
    store = FeatureCache(Counting(), "texts")
    digests = [f"{n:064x}" for n in range(3)]
    store.fill(dict(zip(digests, ["what is it?", "what is it", "who"], strict=True)))
    same, also, other = store.vectors(digests).astype(np.float64)
    assert same @ also == pytest.approx(1, abs=1e-3)
    assert abs(same @ other) < 0.5
    assert len(FeatureCache(Counting(), "images")) == 0


class Broken(Encoder):
    name = "broken"

    def identity(self) -> dict[str, Any]:
        return {}

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        return np.full((len(prepared), 4), np.nan, dtype=np.float32)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ModelError, match="NaN or infinity"):
        FeatureCache(Broken()).fill(squares(0, 2))


def test_an_encoder_that_reads_no_texts_says_so() -> None:
    with pytest.raises(ConfigError, match="encodes only images"):
        FeatureCache(Broken(), "texts").fill({"00" * 32: "hello"})


def test_an_encoder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_encoder.py").write_text(
        "from emu2eval.encoders.base import Thumbnail\nclass Mine(Thumbnail):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build_encoder("my_own_encoder:Mine").name == "mine"
    assert isinstance(build_encoder("thumbnail"), Thumbnail)
