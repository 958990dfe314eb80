"""The run store: what was stored stays, what was torn goes, what is full or locked is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from emu2eval.errors import ImageError, StoreError
from emu2eval.media import images
from emu2eval.runs import scores as scores_module
from emu2eval.runs import store as store_module
from emu2eval.runs.answers import Answer, JudgeCase, from_line, to_line
from emu2eval.runs.scores import SampleScore, pack_scores, read_scores, write_scores
from emu2eval.runs.sealed import Damaged
from emu2eval.runs.store import RunStore
from emu2eval.types import Image, Mark


def key(number: int) -> str:
    return f"{number:064x}"[::-1]


def row(number: int, **more: Any) -> Answer:
    return Answer(**{"id": f"q{number}", "key": key(number), "text": "täxt\n", **more})


def slot_of(answer: Answer) -> int | None:
    number = int(answer.id[1:])
    return number if number < 50 else None


def opened(folder: Path) -> RunStore:
    store = RunStore(folder).open_for_writing()
    store.index(slot_of, 50)
    return store


def test_what_is_stored_is_found_again(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as store:
        store.append([(1, row(1)), (2, row(2))])
        assert store.has(1, key(1))
        assert not store.has(1, key(2))
    with opened(tmp_path / "run") as store:
        assert store.has(2, key(2))
        assert store.stored(2) == row(2)
        assert store.stored(3) is None
        assert store.twin(key(1)) == row(1)
        assert store.twin(key(9)) is None


def test_errors_are_kept_but_asked_again(tmp_path: Path) -> None:
    failed = row(1, text=None, error="no luck")
    with opened(tmp_path) as store:
        store.append([(1, failed)])
        assert not store.has(1, key(1))
        assert store.stored(1) == failed
        assert store.twin(key(1)) is None
    with opened(tmp_path) as store:
        assert not store.has(1, key(1))
        store.append([(1, row(1))])
        assert store.has(1, key(1))
    with opened(tmp_path) as store:
        assert store.stored(1) == row(1)


def test_a_failure_never_hides_an_answer(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([(1, row(1)), (1, row(1, text=None, error="late"))])
        assert store.stored(1) == row(1)


@given(cut=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_torn_last_line_is_dropped(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    with opened(folder) as store:
        store.append([(n, row(n)) for n in range(10)])
    path = folder / "responses.jsonl"
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    with opened(folder) as store:
        assert [store.has(n, key(n)) for n in range(10)] == [n < complete for n in range(10)]
        store.append([(n, row(n)) for n in range(complete, 10)])
    assert path.read_bytes() == whole


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append([(n, row(n)) for n in range(3)])
    path = tmp_path / "responses.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0\0\0 not json\n" + lines[2])
    with opened(tmp_path) as store:
        assert store.damaged == 1
        assert [store.has(n, key(n)) for n in range(3)] == [True, False, True]
        assert [a.id for a in store.answers()] == ["q0", "q2"]


def test_answers_to_some_samples_are_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        store.append([(n, row(n)) for n in range(4)] + [(3, row(3, error="again", take=1))])
    path = tmp_path / "responses.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"not json\n" + whole.replace(b"q1", b"q2", 1) + b'{"id":"q3"')
    read: list[bytes] = []
    monkeypatch.setattr(
        store_module, "from_line", lambda line: (read.append(line), from_line(line))[1]
    )
    wanted = {("q2", 0, 0), ("q3", 1, 0), ("q3", 0, 1), ("q9", 0, 0)}
    found = list(RunStore(tmp_path).answers_to(wanted))
    # The first q2 was a q1, which its checksum tells.
    assert found == [row(2), row(3, error="again", take=1)]
    assert len(read) == 3


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 18])
def test_scores_are_read_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(scores_module, "_BLOCK", block)
    scores = [SampleScore(id=f"q{n}", cluster="ä" * n, value=n / 7) for n in range(5)]
    write_scores(tmp_path, scores)
    assert list(read_scores(tmp_path)) == scores
    (tmp_path / "scores.jsonl").write_bytes((tmp_path / "scores.jsonl").read_bytes()[:-1])
    assert list(read_scores(tmp_path)) == scores
    pack_scores(tmp_path, scores)
    assert list(read_scores(tmp_path)) == scores


def test_a_line_longer_than_any_score_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "_LONGEST", 1000)
    monkeypatch.setattr(scores_module, "_BLOCK", 100)
    write_scores(tmp_path, [SampleScore(id="q" * 5000, cluster="q", value=1.0)])
    with pytest.raises(StoreError, match="longer than any score"):
        list(read_scores(tmp_path))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreError, match="another process"):
        RunStore(tmp_path).open_for_writing()
    opened(tmp_path).close()


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    score = SampleScore(id="q1", cluster="q1", value=1.0)
    write_scores(tmp_path, [score])

    def broken() -> Iterator[SampleScore]:
        yield SampleScore(id="q2", cluster="q2", value=None)
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        write_scores(tmp_path, broken())
    assert list(read_scores(tmp_path)) == [score]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]


def test_a_line_is_an_answer_as_it_was_written_or_damaged() -> None:
    whole = Answer(
        id="q", trial=1, take=2, key=key(1), examples=("a", "b"), left_out=1, shown=("d",),
        text="t", raw="<think>x</think>t", thought="x", log_probs=(-0.5, -1e30), images=("e",),
        ended="length", tokens_in=5, tokens_out=3, marks=(Mark("server", "m"),),
        case=JudgeCase("round 1", "own", 1), theirs={"acc": 1.0}, seconds=0.25,
    )  # fmt: skip
    line = to_line(whole)
    assert from_line(line) == whole
    assert json.loads(line)["text"] == "t"
    for place in range(len(line)):
        for flipped in (line[place] ^ 1, line[place] ^ 0x80, 0xFF):
            if flipped != line[place]:
                with pytest.raises(Damaged):
                    from_line(line[:place] + bytes([flipped]) + line[place + 1 :])


@pytest.mark.parametrize("fault", ['"extra": 1', '"trial": "one"', '"log_probs": [[]]'])
def test_what_does_not_fit_the_struct_is_damaged_whatever_its_checksum(fault: str) -> None:
    body = b'{"id":"q","key":"00",' + fault.encode() + b"}"
    line = b'{"sum":"%08x",' % crc32(body) + body[1:] + b"\n"
    with pytest.raises(Damaged):
        from_line(line)


FILL = """
import resource, signal, sys
from pathlib import Path
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = RunStore(Path(sys.argv[1])).open_for_writing()
store.index(lambda answer: int(answer.id), 10_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
number = 0
try:
    while True:
        answer = Answer(id=str(number), key=f"{number:064x}"[::-1], text="x" * 99)
        store.append([(number, answer)])
        number += 1
except StoreError as error:
    print(number, error.what)
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """For real: the kernel refuses to let the file grow, in the middle of a line."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    stored, _, says = done.stdout.partition(" ")
    assert "no space left" in says
    lines = (tmp_path / "responses.jsonl").read_bytes()
    assert lines.endswith(b"\n")
    assert lines.count(b"\n") == int(stored) > 5


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot write"):
        RunStore(tmp_path / "run").open_for_writing()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match="cannot write"):
        RunStore(tmp_path / "runs" / "run").open_for_writing()


def test_a_stored_image_is_known_without_being_read(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    made = images.from_pil(PILImage.new("RGB", (8, 8), "red"))
    with store.open_for_writing():
        digest = store.save_image(made)
    shown = store.image(digest)
    assert images.digest(Image(str(shown.path))) == digest
    Path(str(shown.path)).unlink()
    assert images.digest(shown) == digest
    with pytest.raises(ImageError):
        images.load(shown)
