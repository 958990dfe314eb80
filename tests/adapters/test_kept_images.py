"""Prepared images on the disk: nothing decoded twice, nothing damaged believed, no more room than given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image as PILImage

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from emu2eval.adapters.local.encoded import Shown  # noqa: E402
from emu2eval.adapters.local.kept_images import KeptImages  # noqa: E402
from emu2eval.adapters.local.prepared import Arrays  # noqa: E402
from emu2eval.media import images  # noqa: E402


def shown(number: int, variety: str = "") -> Shown:
    return Shown(images.from_pil(PILImage.new("RGB", (4, 4), (number, 0, 0))), 1, variety)


class Making:
    """Counts; arrays of 400 and 16 bytes that are another image's and no contiguous ones."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, one: Shown) -> Arrays:
        self.made += 1
        value = float(images.load(one.image).getpixel((0, 0))[0])  # type: ignore[index]
        return Arrays(
            {"pixel_values": torch.full((20, 5), value).t(), "sizes": torch.tensor([[4, 4]])}
        )


def same(left: Arrays, right: Arrays) -> bool:
    return left.values.keys() == right.values.keys() and all(
        torch.equal(value, right.values[name]) and value.dtype == right.values[name].dtype
        for name, value in left.values.items()
    )


def test_what_was_prepared_once_is_read(tmp_path: Path) -> None:
    making = Making()
    for again in range(2):
        kept = KeptImages(tmp_path, "key", 1 << 20)
        found = [kept.get(shown(number), making) for number in range(3)]
        assert making.made == 3
        assert all(same(one, Making()(shown(i))) for i, one in enumerate(found)), again
    KeptImages(tmp_path, "key", 1 << 20).get(shown(0, "alone"), making)
    KeptImages(tmp_path, "other", 1 << 20).get(shown(0), making)
    assert making.made == 5
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    making = Making()
    kept = KeptImages(tmp_path, "key", 1 << 20)
    kept.get(shown(7), making)
    (path,) = tmp_path.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1 if damage == "flipped" else 0
    path.write_bytes(
        {"cut": bytes(data[:-9]), "flipped": bytes(data), "empty": b"", "another": b"\0" * 64}[
            damage
        ]
    )
    assert same(kept.get(shown(7), making), Making()(shown(7)))
    assert making.made == 2
    kept.get(shown(7), making)
    assert making.made == 2


def test_the_oldest_go(tmp_path: Path) -> None:
    """Those of other processors, too."""
    making = Making()
    kept = KeptImages(tmp_path, "old", 1 << 20)
    kept.get(shown(0), making)
    (path,) = tmp_path.rglob("*.safetensors")
    os.utime(path, (0, 0))
    most = 4 * path.stat().st_size
    new = KeptImages(tmp_path, "new", most)
    for number in range(1, 12):
        new.get(shown(number), making)
        assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= most
    assert not path.exists()
    new.get(shown(11), making)
    assert making.made == 12


def test_a_disk_that_takes_nothing_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    making = Making()
    kept = KeptImages(tmp_path / "file", "key", 1 << 20)
    for _ in range(2):
        assert same(kept.get(shown(3), making), Making()(shown(3)))
    assert making.made == 2


def test_lists_are_not_kept(tmp_path: Path) -> None:
    kept = KeptImages(tmp_path, "key", 1 << 20)
    kept.get(shown(1), lambda one: Arrays({"pixel_values": torch.zeros(2), "rows": [1, 2]}))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_threads_that_begin_together_leave_the_others_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time
    from threading import Barrier, Thread

    from emu2eval.adapters.local import threads

    count, begun = [8], Barrier(4)

    def set_threads(wanted: int) -> int:
        before, count[0] = count[0], wanted
        time.sleep(0.002)
        return before

    def work() -> None:
        begun.wait()
        threads.one_here()

    monkeypatch.setattr(threads, "set_threads", set_threads)
    working = [Thread(target=work) for _ in range(4)]
    for one in working:
        one.start()
    for one in working:
        one.join()
    assert count == [8]
