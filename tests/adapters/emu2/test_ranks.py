"""Emu2 over two ranks: the answers of one process, shares of its weights, and ranks that end together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.local.head import wide_scores
from emu2eval.adapters.local.team import TRIES, Team
from emu2eval.errors import ConfigError, ModelError
from emu2eval.media.images import from_pil, load
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)

from ..forked import AS_PROGRAMS, alive, forking
from .conftest import built

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its ranks"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Faulty(Emu2Adapter):
    """Each rank does as it is told by a word."""

    def act(self, word: str) -> Any:
        assert self.rank is not None
        first = self.rank.number == 0
        if word == "die" and not first:
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "wait":
            time.sleep(60)
        if word == "all fail":
            raise torch.OutOfMemoryError("out of memory on every rank")
        if word == "one fails" and not first:
            raise torch.OutOfMemoryError("out of memory on one rank")
        if word == "pids":
            return self._everyone()
        return self.rank.everywhere({self.rank.number: word})

    def differ(self) -> list[Response]:
        assert self.rank is not None
        return [Response(text=str(self.rank.number))]

    def head(self, rows: int) -> tuple[int, float]:
        """Of scores in bfloat16: how many differ, and how far they are from those in float32."""
        model = self._loaded().model
        weight: Any = model.decoder.lm.lm_head.weight
        hidden = torch.arange(rows * weight.shape[1]).view(rows, -1).sin().bfloat16()
        with torch.inference_mode():
            found = wide_scores(hidden, weight.bfloat16())
            want = hidden.float() @ weight.full_tensor().bfloat16().float().t()
        return found.unique().numel(), float((found - want).abs().max())

    def _everyone(self) -> list[int]:
        import torch.distributed as dist

        assert self.rank is not None
        pids: list[Any] = [None] * self.rank.count
        dist.all_gather_object(pids, os.getpid(), self.rank.words)
        return pids


def _image(number: int) -> Image:
    return from_pil(PILImage.new("RGB", (32, 32), (number * 37 % 256, number * 91 % 256, 7)))


def _request(number: int, output: Output) -> Request:
    turns = tuple(Turn(("a dog", _image(i)), ("a cat",)) for i in range(2))
    prompt = Prompt(query=(_image(number), "The cat " * number), turns=turns)
    return Request(f"{output.kind}-{number}", prompt, output)


TEXTS = [_request(i, TextOutput(max_new_tokens=6)) for i in range(3)]
CHOICES = [_request(1, ChoiceOutput(("cat", "a dog", "The red square")))]
PAINTED = [_request(2, ImageOutput(width=64, height=64, steps=1))]


@pytest.fixture(scope="module")
def two(folders: dict[str, Path]) -> Iterator[Faulty]:
    settings = {"dtype": "float32", "threads": 1, "tensor_parallel": 2}
    with forking():
        adapter = Faulty(Emu2Settings(checkpoint=str(folders["gen"]), **settings))
        assert adapter.lacks() == []
        adapter.load()
        yield adapter
        adapter.close()


@pytest.fixture(scope="module")
def one(folders: dict[str, Path]) -> Iterator[Emu2Adapter]:
    adapter = built(folders["gen"], dtype="float32", threads=1)
    adapter.load()
    yield adapter
    adapter.close()


def test_two_ranks_answer_as_one_process(one: Emu2Adapter, two: Faulty) -> None:
    """By five beams; twice, the second time behind demonstrations whose keys are kept; a choice; an image."""
    two.prepare(TEXTS[0])
    for _ in range(2):
        texts = [r.text for r in two.answer(TEXTS)]
        assert texts == [r.text for r in one.answer(TEXTS)] and all(texts)
    (alone,), (together,) = one.answer(CHOICES), two.answer(CHOICES)
    assert together.log_probs == pytest.approx(alone.log_probs, rel=1e-6, abs=1e-5)
    (alone,), (together,) = one.answer(PAINTED), two.answer(PAINTED)
    assert alone.image is not None and together.image is not None
    difference = np.asarray(load(alone.image), int) - np.asarray(load(together.image), int)
    assert abs(difference).max() <= 1
    assert np.array_equal(two.encode_images([_image(3)]), one.encode_images([_image(3)]))


def test_each_rank_holds_its_share(one: Emu2Adapter, two: Faulty) -> None:
    model = one._loaded().model
    language = dict(model.decoder.lm.named_parameters())
    split = sum(w.nbytes for name, w in language.items() if "norm" not in name)
    whole = sum(weight.nbytes for weight in model.parameters())
    assert two._team is not None
    assert sum(two._team.weights) == 2 * whole - split
    assert two._team.weights[0] - two._team.weights[1] <= 2 * 4 * model.config.decoder.hidden_size


def test_scores_of_half_precision_stay_in_float32(two: Faulty, folders: dict[str, Path]) -> None:
    """Also where each rank has half of the words."""
    assert two._team is not None
    different, off = two._team.call("head", 3)
    assert off < 1e-5 and different > 2.9 * two.opened.config.decoder.vocab_size


def test_an_image_that_one_rank_cannot_read_costs_its_request_alone(two: Faulty) -> None:
    assert two._team is not None
    assert two._team.call("act", "agreed") == {0: "agreed", 1: "agreed"}


def test_what_all_ranks_raise_leaves_them_running(two: Faulty) -> None:
    team = two._team
    assert team is not None
    before = team.call("act", "pids")
    with pytest.raises(Exception, match="OutOfMemoryError: out of memory on every rank"):
        team.call("act", "all fail")
    assert team.call("act", "pids") == before


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("one fails", "rank 1 of 2: OutOfMemoryError: out of memory on one rank"),
        ("die", "rank 1 of 2 of the model ended by signal 9"),
    ],
)
def test_a_rank_that_is_lost_takes_the_others_with_it(two: Faulty, word: str, told: str) -> None:
    """They are started again by the next call."""
    team = two._team
    assert team is not None
    before = team.call("act", "pids")
    with pytest.raises(Exception, match=told):
        team.call("act", word)
    assert not any(map(alive, before))
    after = team.call("act", "pids")
    assert not set(after) & set(before) and all(map(alive, after))


def test_an_interrupted_call_ends_the_ranks(two: Faulty) -> None:
    """By Ctrl-C, say: nobody wants what they are at."""
    team = two._team
    assert team is not None
    before = team.call("act", "pids")
    previous = signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            team.call("act", "wait")
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert not any(map(alive, before))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_ranks_that_do_not_agree_are_not_believed(two: Faulty) -> None:
    team = two._team
    assert team is not None
    with pytest.raises(ModelError, match="the 2 ranks of this model came to different answers"):
        team.call("differ")


class Half(Faulty):
    """Of which one rank cannot load its share, while the other waits for it."""

    def _load(self, opened: Any) -> Any:
        assert self.rank is not None
        if self.rank.number:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.rank.everywhere({})
        return super()._load(opened)


def test_a_rank_that_cannot_load_is_told(two: Faulty) -> None:
    adapter = Half(two.settings)
    with pytest.raises(Exception, match="rank 1 of 2: OutOfMemoryError: CUDA out of memory"):
        adapter.load()
    assert adapter._team is None


def test_ranks_that_are_lost_again_and_again_are_given_up(two: Faulty) -> None:
    team = two._team
    assert team is not None
    team._lost = TRIES - 1
    with pytest.raises(ModelError, match="signal 9"):
        team.call("act", "die")
    with pytest.raises(
        ModelError, match="lost 3 times, one after the other; the last time: rank 1"
    ):
        team.call("act", "pids")
    team._lost = 0


def test_ranks_end_with_the_process_that_asks_them(folders: dict[str, Path]) -> None:
    """Killed, it cannot end them itself."""
    reading, writing = os.pipe()
    asking = os.fork()
    if not asking:
        try:
            with forking():
                settings = Emu2Settings(
                    checkpoint=str(folders["base"]), threads=1, tensor_parallel=2
                )
                adapter = Faulty(settings)
                adapter.load()
                assert adapter._team is not None
                pids = adapter._team.call("act", "pids")
                os.write(writing, ",".join(map(str, pids)).encode())
                time.sleep(60)
        finally:
            os._exit(3)
    pids = [int(pid) for pid in os.read(reading, 100).decode().split(",")]
    assert all(map(alive, pids))
    os.kill(asking, signal.SIGKILL)
    os.waitpid(asking, 0)
    until = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, pids))
    os.close(reading)
    os.close(writing)


@pytest.mark.slow
def test_emu2_nano_over_three_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its three heads, one to a rank, each started as users' are."""
    monkeypatch.setattr(Team, "_started", AS_PROGRAMS)
    folder = Path(__file__).parents[3] / "models" / "emu2-nano"
    asked = [_request(i, TextOutput(max_new_tokens=6)) for i in range(8)]
    found = []
    for settings in ({}, {"tensor_parallel": 3}):
        adapter = built(folder, dtype="float32", threads=1, **settings)
        assert adapter.lacks() == []
        adapter.load()
        found.append((adapter.answer(asked), adapter.answer(CHOICES)))
        adapter.close()
    (texts, (alone,)), (split, (together,)) = found
    assert [r.text for r in texts] == [r.text for r in split]
    assert together.log_probs == pytest.approx(alone.log_probs, rel=1e-6, abs=1e-5)
    with pytest.raises(ConfigError, match="3 attention heads cannot be split over 2 ranks"):
        built(folder, tensor_parallel=2).load()
