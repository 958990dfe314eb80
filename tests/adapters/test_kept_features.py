"""Records appended by many processes: read by all, torn ones believed by none, no more room than given."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from emu2eval.adapters.local import appended  # noqa: E402
from emu2eval.adapters.local.appended import AppendedRecords  # noqa: E402
from emu2eval.adapters.local.encoded import Shown  # noqa: E402
from emu2eval.adapters.local.kept_features import KeptFeatures, LaidFeatures  # noqa: E402
from emu2eval.types import Image  # noqa: E402

ROOM = 1 << 20


def key(number: int) -> bytes:
    return sha256(bytes([number])).digest()


def opened(folder: Path, most: int = ROOM, name: str = "key") -> AppendedRecords:
    return AppendedRecords(folder, name, most)


def test_what_one_process_wrote_others_read(tmp_path: Path) -> None:
    """Those that were there before, too, as soon as they look; nobody writes into another's file."""
    one, two = opened(tmp_path), opened(tmp_path)
    one.put(key(1), b"first")
    two.put(key(2), b"second")
    one.put(key(1), b"never")
    assert key(1) not in two
    two.look(at_once=True)
    one.look(at_once=True)
    for each in (one, two, opened(tmp_path)):
        assert (each.get(key(1)), each.get(key(2)), each.get(key(3))) == (b"first", b"second", None)
    assert len(list(tmp_path.rglob("*.data"))) == 2
    assert key(1) not in opened(tmp_path, name="other")


def test_looking_again_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    records = opened(tmp_path)
    own = records._learn
    monkeypatch.setattr(records, "_learn", lambda: looked.append(1) or own())
    for _ in range(5):
        records.look()
    assert looked == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "no entry", "half an entry", "entry", "gone"])
def test_what_a_kill_left_is_not_there(tmp_path: Path, damage: str) -> None:
    """The records before it are, and it is written again."""
    killed = opened(tmp_path)
    killed.put(key(1), b"whole" * 9)
    killed.put(key(2), b"torn" * 9)
    (data,), (index,) = tmp_path.rglob("*.data"), tmp_path.rglob("*.index")
    size = appended._ENTRY.size
    records, entries = bytearray(data.read_bytes()), bytearray(index.read_bytes())
    if damage == "gone":
        data.unlink()
        index.unlink()
    else:
        records[-3] ^= damage == "flipped"
        entries[-30] ^= damage == "entry"
        data.write_bytes(records[: -5 if damage == "cut" else None])
        cut = {"no entry": size, "half an entry": size // 2}.get(damage, 0)
        index.write_bytes(entries[: len(entries) - cut])
    for _ in range(2):
        after = opened(tmp_path)
        assert after.get(key(1)) in (None if damage == "gone" else b"whole" * 9, b"whole" * 9)
        after.put(key(2), b"again" * 9) if after.get(key(2)) is None else None
        assert after.get(key(2)) == b"again" * 9
    assert len(list(tmp_path.rglob("*.data"))) == (1 if damage == "gone" else 2)


def test_no_more_room_than_given(tmp_path: Path) -> None:
    """What somebody used within the hour stays, and no more is kept; what nobody did goes, oldest first."""
    old = opened(tmp_path, name="old")
    for number in range(40):
        old.put(key(number), bytes(ROOM // 64))
    files = sorted(tmp_path.rglob("*.data"))
    assert len(files) == 40

    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.rglob("*.data"))

    new = opened(tmp_path)
    for number in range(40):
        new.put(key(100 + number), bytes(ROOM // 64))
    assert size() <= ROOM and new.full and len(new) == 24
    for path in files:
        os.utime(path, (time.time() - 2 * appended.IDLE,) * 2)
    used = opened(tmp_path, name="old")
    assert used.get(key(3)) is not None
    again = opened(tmp_path)
    for number in range(40):
        again.put(key(100 + number), bytes(ROOM // 64))
    assert size() <= ROOM and not again.full and len(again) == 40
    assert files[3].exists() and not files[0].exists()
    used.look(at_once=True)
    assert used.get(key(0)) is None and used.get(key(3)) is not None


def test_a_disk_that_takes_nothing_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    records = opened(tmp_path / "file")
    records.put(key(1), b"x")
    assert records.full and records.get(key(1)) is None
    monkeypatch.setattr(appended, "FREE", 1 << 60)  # results are written to the same disk
    records = opened(tmp_path)
    records.put(key(1), b"x")
    assert records.full and not list(tmp_path.rglob("*.data"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_keep_their_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    kept = KeptFeatures(opened(tmp_path))
    shown = Shown(Image(data=b"not read"), 4)
    object.__setattr__(shown.image, "_digest", "a" * 64)
    given = {"pooled": torch.randn(5, 3).to(dtype).t(), "grid.sizes": torch.tensor([[4, 4]])}
    kept.put(shown, LaidFeatures(given, {"layers": [1, 2]}))
    found = KeptFeatures(opened(tmp_path)).get(shown)
    assert found is not None and found.about == {"layers": [1, 2]}
    for name, value in given.items():
        assert found.tensors[name].dtype == value.dtype and torch.equal(found.tensors[name], value)


def test_what_is_no_number_is_not_kept(tmp_path: Path) -> None:
    kept = KeptFeatures(opened(tmp_path))
    shown = Shown(Image(data=b"not read"), 4)
    object.__setattr__(shown.image, "_digest", "a" * 64)
    kept.put(shown, LaidFeatures({"pooled": torch.tensor([1.0, torch.nan])}, {}))
    assert shown not in kept
