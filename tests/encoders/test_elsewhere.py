"""Encoders whose work is done elsewhere: the same features; only paths, digests and vectors travel."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.encoders.base import Encoder, Thumbnail, Vectors
from emu2eval.encoders.elsewhere import Elsewhere, encoded
from emu2eval.encoders.features import FeatureCache
from emu2eval.errors import ImageError
from emu2eval.fewshot.choosers import Chooser
from emu2eval.media import images
from emu2eval.types import Image


class Places:
    """Other processes: what goes there and comes back is pickled."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def __call__(self, encoder: Encoder, given: Sequence[Any]) -> Vectors:
        data = pickle.dumps((encoder, given))
        self.sent.append(len(given))
        assert len(data) < 200 + 400 * len(given)
        return encoded(*pickle.loads(data))


def drawn(folder: Path, count: int) -> dict[str, Image]:
    found = {}
    for number in range(count):
        path = folder / f"{number}.png"
        PILImage.new("RGB", (90, 60), (number, 0, 100)).save(path)
        found[images.digest(Image(str(path)))] = Image(str(path))
    return found


def test_features_made_elsewhere_are_the_same(tmp_path: Path) -> None:
    """They are found by whoever encodes here, and made in as many requests as there is room for."""
    wanted, places = drawn(tmp_path, 70), Places()
    far = FeatureCache(Elsewhere(Thumbnail(), places, 48))
    assert far.fill(wanted) == 70 and places.sent == [48, 22]
    here = FeatureCache(Thumbnail())
    assert here.fill(wanted) == 0
    plain = Thumbnail().encode([Thumbnail().prepare(image) for image in wanted.values()])
    assert (encoded(Thumbnail(), list(wanted.values())) == plain).all()
    words = FeatureCache(Elsewhere(Thumbnail(), places, 48), "texts")
    assert words.fill({"ab" * 32: "a cat", "cd" * 32: "a dog"}) == 2


def test_an_image_that_is_another_one_there_costs_itself(tmp_path: Path) -> None:
    wanted, places = drawn(tmp_path, 6), Places()
    for image in wanted.values():
        images.info(image)
    (tmp_path / "2.png").write_bytes((tmp_path / "3.png").read_bytes())
    refused: dict[str, ImageError] = {}
    far = FeatureCache(Elsewhere(Thumbnail(), places, 48))
    assert far.fill(wanted, refused=refused) == 5
    assert list(refused) == [list(wanted)[2]]
    assert "has changed since its request was made" in str(*refused.values())


def test_an_encoder_that_was_opened_travels_without_what_it_opened(tmp_path: Path) -> None:
    from emu2eval.encoders.checkpoint import CheckpointEncoder

    own = CheckpointEncoder(str(tmp_path))
    before = pickle.dumps(own)
    own.__dict__["_model"] = object
    own.__dict__["device"] = object
    assert pickle.dumps(own) == before


def test_a_chooser_has_its_encoder_work_elsewhere(
    make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places()
    rices = {"split": "train", "chooser": "rices", "options": {"encoder": "thumbnail"}}
    task = make_task(queries=3, pool=8, demonstrations=rices)
    wanted = evaluate(str(task), "most-common", shots=[2])[0].rows[0].value
    monkeypatch.setenv("EMU2EVAL_CACHE", str(task.parent / "another"))
    monkeypatch.setattr(Chooser, "route", lambda self, own: Elsewhere(own, places, 99))
    found = (
        evaluate(str(task), "most-common", shots=[2], out=task.parent / "again")[0].rows[0].value
    )
    assert sum(places.sent) == 11
    assert found == wanted
