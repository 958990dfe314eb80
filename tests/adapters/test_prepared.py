"""Images prepared ahead: each once, within a stated bound, on threads that keep to themselves."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

torch = pytest.importorskip("torch")

from emu2eval.adapters.local import prepared  # noqa: E402
from emu2eval.adapters.local.encoded import Shown  # noqa: E402
from emu2eval.adapters.local.prepared import Arrays, Prepared, Room  # noqa: E402
from emu2eval.adapters.local.threads import one_here  # noqa: E402
from emu2eval.media import cores, images  # noqa: E402


def shown(number: int) -> Shown:
    return Shown(images.from_pil(PILImage.new("RGB", (4, 4), (number, 0, 0))), 1)


class Making:
    """What is made, each image of 100 bytes; an image is made when `go` is set."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.go = threading.Event()
        self.fails = False

    def __call__(self, one: Shown) -> Arrays:
        self.go.wait(5)
        self.made.append(one.key)
        if self.fails:
            raise ValueError("no image")
        return Arrays({"pixels": np.zeros(100, np.uint8)})


def test_an_image_is_made_once_by_whoever_comes_first() -> None:
    """Also where its encoder asks while another thread is at it."""
    making = Making()
    ready = Prepared(making)
    with ThreadPoolExecutor(4) as threads:
        begun = [threads.submit(ready.begin, shown(number % 2)) for number in range(8)]
        asked = threads.submit(lambda: [ready.take(shown(number)) for number in (0, 1, 2)])
        making.go.set()
        assert len(asked.result()) == 3 and all(each.result() is None for each in begun)
    left = [one for one in (shown(0), shown(1)) if ready.forget(one)]
    assert len(making.made) == 3 + len(left) and ready.nbytes == 0


def test_one_that_fails_ahead_fails_where_it_is_needed() -> None:
    making = Making()
    making.fails = True
    making.go.set()
    ready = Prepared(making)
    for call in (ready.begin, ready.take):
        with pytest.raises(ValueError, match="no image"):
            call(shown(0))
    making.fails = False
    assert ready.take(shown(0)).nbytes == 100 and ready.nbytes == 0


def test_what_waits_is_bounded_and_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed soonest is kept; what was never asked for makes room in the end."""
    monkeypatch.setattr(prepared, "AHEAD_BYTES", 250)
    making = Making()
    making.go.set()
    ready = Prepared(making)
    for number in range(9):
        ready.begin(shown(number))
    assert making.made == [shown(number).key for number in range(3)] and ready.nbytes == 300
    ready.take(shown(0))
    assert ready.nbytes == 200 and len(making.made) == 3
    for _ in range(prepared.FORGOTTEN_AFTER + 1):
        ready.next_batch()
    for number in (5, 6):
        ready.begin(shown(number))
    assert making.made[3:] == [shown(5).key, shown(6).key]
    assert ready.forget(shown(1)) is None and ready.nbytes == 200


def test_large_images_are_decoded_one_after_the_other() -> None:
    room, most, at_once = Room(100), 0, []
    lock = threading.Lock()

    def work(size: int) -> None:
        nonlocal most
        with room.taken(size):
            with lock:
                at_once.append(size)
                most = max(most, sum(at_once))
            time.sleep(0.002)
            with lock:
                at_once.remove(size)

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(work, size) for size in (40, 60, 40, 300, 60, 30, 300)]:
            each.result()
    assert most == 300 and room.used == 0


def test_a_thread_that_prepares_starts_no_others() -> None:
    """Neither the main thread nor those that begin later lose theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(one_here).result()
            assert threads.submit(torch.get_num_threads).result() == 1
            with ThreadPoolExecutor(1) as others:
                assert others.submit(torch.get_num_threads).result() == 2
        one_here()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "what\n"}, None),
    ],
)
def test_what_a_container_allows(tmp_path: Path, files: dict[str, str], most: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.allowed(tmp_path) == most
    assert 1 <= cores.cores() <= cores.MOST
