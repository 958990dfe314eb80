"""Features that several processes need at once: made once, by whoever comes first, and never lost."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval.encoders import features
from emu2eval.encoders.base import Thumbnail, Vectors
from emu2eval.encoders.claims import NAME, claim, claimed
from emu2eval.encoders.features import FeatureCache
from emu2eval.media import images
from emu2eval.types import Image


class Counting(Thumbnail):
    """Counts what it encodes; meanwhile: what happens while it is at work."""

    batch = 4

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.encoded = 0
        self.meanwhile = meanwhile

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        self.encoded += len(prepared)
        self.meanwhile()
        return super().encode(prepared)


@pytest.fixture(scope="module")
def many() -> dict[str, Image]:
    found = {}
    for number in range(96):
        image = images.from_pil(PILImage.new("RGB", (4, 4), (number, 0, 100)))
        found[images.digest(image)] = image
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "LOOK_AGAIN", 0.005)


def first(many: dict[str, Image], count: int, start: int = 0) -> dict[str, Image]:
    return dict(list(many.items())[start : start + count])


@pytest.mark.parametrize("locks", [True, False])
def test_processes_share_the_work(
    many: dict[str, Image], monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Also on a file system without locks; all end with all, and one file is left."""
    if not locks:
        refuse = OSError(errno.ENOSYS, "Function not implemented")
        monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(refuse))
    monkeypatch.setattr(features, "CLAIM_SECONDS", 0.02)
    together = Barrier(3)
    encoders = [Counting(lambda: time.sleep(0.002)) for _ in range(3)]
    made: dict[int, tuple[int, FeatureCache]] = {}

    def work(number: int) -> None:
        cache = FeatureCache(encoders[number])
        together.wait()
        made[number] = cache.fill(many), cache

    threads = [Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(encoder.encoded for encoder in encoders) == len(many)
    assert [count for count, _ in made.values()] == [encoders[n].encoded for n in made]
    digests = list(many)
    wanted = made[0][1].vectors(digests)
    assert all((cache.vectors(digests) == wanted).all() for _, cache in made.values())
    folder = made[0][1].folder
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert not claimed(folder)
    assert {path.name for path in (folder / NAME).iterdir()} <= {"lock"}


def test_nothing_is_locked_while_an_encoder_works(many: dict[str, Image]) -> None:
    """Another process fills what it needs of its own, meanwhile."""
    other = Counting()

    def meanwhile() -> None:
        FeatureCache(other).fill(first(many, 8, start=20))

    assert FeatureCache(Counting(meanwhile)).fill(first(many, 12)) == 12
    assert other.encoded == 8


def test_what_a_killed_process_was_at_is_made_by_the_next(many: dict[str, Image]) -> None:
    cache = FeatureCache(Counting())
    place = cache.folder / NAME
    place.mkdir(parents=True)
    digests = b"".join(bytes.fromhex(digest) for digest in many)
    (place / "elsewhere.org-4194999-0").write_bytes(digests)
    assert cache.fill(first(many, 8)) == 8
    assert {path.name for path in place.iterdir()} == {"lock"}


def test_what_another_process_is_at_is_waited_for_with_a_word(many: dict[str, Image]) -> None:
    wanted = first(many, 12)
    cache, encoder = FeatureCache(Counting()), Counting()
    cache.folder.mkdir(parents=True)
    held = claim(cache.folder, list(wanted)[4:8], 99)
    assert held is not None
    assert claim(cache.folder, list(wanted)[4:8], 99) is None
    told: list[tuple[str, int, int]] = []

    def progress(*said: Any) -> None:
        told.append(said)
        if "waiting" in said[0] and held.digests.isdisjoint(ready):
            # It ends without having made them all: the rest is free again.
            FeatureCache(encoder)._write_pending([(list(wanted)[4:6], fresh)])
            ready.update(list(wanted)[4:6])
            held.close()

    ready: set[str] = set()
    fresh = Thumbnail().encode([Thumbnail().prepare(wanted[d]) for d in list(wanted)[4:6]])
    assert cache.fill(wanted, progress) == 10
    assert ("waiting for images through thumbnail", 8, 12) in told
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1] == ("images through thumbnail", 12, 12)


def test_files_that_others_make_one_of_are_read_where_they_are_now(
    many: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network's file system a removed one is an error, or even the end of whoever maps it."""
    wanted = first(many, 12)
    with monkeypatch.context() as patched:
        patched.setattr(features, "WRITE_EVERY", 0)
        patched.setattr(FeatureCache, "_join", lambda self: None)
        early = FeatureCache(Counting())
        early.fill(wanted)
    before = early.vectors(list(wanted))
    assert len(early._files) == 3
    FeatureCache(Counting()).fill(first(many, 16))
    assert len(list(early.folder.glob("*.safetensors"))) == 1
    assert (early.vectors(list(wanted)) == before).all()
    own = Path.open

    def stale(path: Path, *given: Any, **named: Any) -> Any:
        if path in gone:
            raise OSError(errno.ESTALE, "Stale file handle")
        return own(path, *given, **named)

    gone = set(early._files)
    FeatureCache(Counting()).fill(first(many, 20))
    monkeypatch.setattr(Path, "open", stale)
    assert (early.vectors(list(wanted)) == before).all()


def test_a_temporary_file_of_another_machine_stays(many: dict[str, Image]) -> None:
    """Its process may well live; one of this machine that is dead leaves nothing behind."""
    cache = FeatureCache(Counting())
    cache.folder.mkdir(parents=True)
    here = features.replace.__globals__["_HOST"]
    dead, theirs = (
        cache.folder / f".images-000000.safetensors.{host}-1-4194999" for host in (here, "node7")
    )
    dead.touch()
    theirs.touch()
    cache.fill(first(many, 4))
    assert theirs.exists() and not dead.exists()
