"""What is taken away from demonstrations, and what stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.engine.prompting import Prompted, Prompts
from emu2eval.engine.questions import questions_of
from emu2eval.engine.splits import Splits
from emu2eval.engine.tasks import open_task
from emu2eval.errors import UnknownName
from emu2eval.fewshot.ablate import ablate, changes_nothing, dealt
from emu2eval.identity import request_key
from emu2eval.media.images import digest, info
from emu2eval.runs.record import Extent, read_record
from emu2eval.spec.changes import Changes
from emu2eval.types import Image, Prompt, Shots, TextOutput, Turn, Video
from emu2eval.watch import Watcher

MakeTask = Callable[..., Path]


def made(
    task: Path, ablation: str, *, limit: int | None = None, trials: int = 1, seed: int = 0
) -> list[Prompted]:
    """Every prompt with 6 demonstrations, in the order in which they would be asked."""
    opened, data, shots = open_task(str(task), Changes(), shots=[6]), Splits(Watcher()), Shots(6)
    pool, chooser = data.chooser(opened, seed)
    samples = data.split(opened, opened.split)
    questions = questions_of(opened, samples, shots, Extent(limit=limit, trials=trials))
    prompts = Prompts(questions, shots, pool, chooser, seed, ablation)
    return [prompts.at(place) for place in questions]


def key(prompted: Prompted) -> str:
    return request_key(prompted.prompt, TextOutput(), "anyone")


def replies(prompt: Prompt) -> list[str]:
    return [str(turn.reply[0]) for turn in prompt.turns]


def shown(prompt: Prompt) -> list[str]:
    return [digest(part) for turn in prompt.turns for part in turn.ask if isinstance(part, Image)]


def asked(prompt: Prompt) -> list[str]:
    return [part for turn in prompt.turns for part in turn.ask if isinstance(part, str)]


def test_each_takes_away_one_thing_and_keeps_the_rest(make_task: MakeTask) -> None:
    task = make_task()
    plain = made(task, "none")
    for name in ("labels", "images", "blank", "order"):
        for before, after in zip(plain, made(task, name), strict=True):
            one, other = before.prompt, after.prompt
            assert other.query == one.query
            assert sorted(d.sample.id for d in after.demonstrations) == sorted(
                d.sample.id for d in before.demonstrations
            )
            assert Counter(replies(other)) == Counter(replies(one))
            assert (replies(other) == replies(one)) or name in ("labels", "order")
            assert (asked(other) == asked(one)) or name == "order"
            if name == "blank":
                assert len(set(shown(other))) == 1
            else:
                assert Counter(shown(other)) == Counter(shown(one))
                assert (shown(other) == shown(one)) or name in ("images", "order")
            assert key(before) != key(after) or one == other


def test_an_answer_depends_on_its_own_demonstrations_alone(make_task: MakeTask) -> None:
    task = make_task()
    many = {(p.sample.id, key(p)) for p in made(task, "labels", trials=2)}
    few = {(p.sample.id, key(p)) for p in made(task, "labels", limit=5, trials=2)}
    assert (len(few), len(many)) == (5 * 2, 12 * 2)
    assert few <= many
    assert {key(p) for p in made(task, "labels", seed=1)}.isdisjoint(key for _, key in many)


def test_the_same_fixed_demonstrations_are_dealt_alike_for_all(make_task: MakeTask) -> None:
    task = make_task(demonstrations={"split": "train", "chooser": "fixed"})
    assert len({p.prompt.turns for p in made(task, "labels")}) == 1


def test_one_more_demonstration_moves_at_most_one_other(make_task: MakeTask) -> None:
    for number in range(200):
        names = [f"{number}-{i}" for i in range(9)]
        shorter = dealt(names[1:], names[1:], "x")
        longer = dealt(names, names, "x")
        assert sorted(longer) == names
        assert sum(a != b for a, b in zip(longer[1:], shorter, strict=True)) <= 1


def test_every_order_is_equally_likely() -> None:
    counts = Counter(tuple(dealt("abc", [f"{n}{c}" for c in "abc"], "k")) for n in range(3000))
    assert len(counts) == 6
    # 500 each, within four standard errors.
    assert all(418 < count < 582 for count in counts.values())


def test_blank_images_keep_their_size_and_videos_their_frames(make_task: MakeTask) -> None:
    task = make_task()
    image = made(task, "none")[0].prompt.turns[0].ask[0]
    assert isinstance(image, Image)
    turns = [Turn((Video((image, image)), "what?"), (image,)), Turn((image,), ("b",))]
    (video, text), still = (turn.ask for turn in ablate(turns, ["1", "2"], "blank"))
    assert isinstance(video, Video) and text == "what?" and isinstance(still[0], Image)
    assert [info(frame).width for frame in video.frames] == [16, 16]
    assert digest(still[0]) != digest(image)
    assert ablate(turns, ["1", "2"], "blank")[0].reply == (image,)
    # A video and an image cannot take each other's place.
    assert ablate(turns, ["1", "2"], "images") == tuple(turns)


def test_where_there_is_nothing_to_take_away() -> None:
    assert [changes_nothing("labels", k, False) for k in (0, 1, 2)] == [True, True, False]
    assert [changes_nothing("blank", k, False) for k in (0, 1)] == [True, False]
    assert changes_nothing("images", 2, True) and not changes_nothing("labels", 2, True)
    assert not changes_nothing("none", 0, False)


def test_ablated_runs_are_their_own_and_marked(make_task: MakeTask, make_model: Any) -> None:
    task, model = str(make_task()), str(make_model())
    notes: list[str] = []

    class Notes(Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    results = evaluate(
        task, model, shots=[0, 4], ablate=["none", "labels", "blank"], watcher=Notes()
    )
    assert [r.rows[0].setting for r in results] == ["0", "4", "4 (labels)", "4 (blank)"]
    assert [r.rows[0].ablation for r in results] == ["none", "none", "labels", "blank"]
    assert len({r.folder for r in results}) == 4
    assert results[2].folder.name.startswith("squares_4-shot-labels_robot_")
    assert read_record(results[3].folder).ablation == "blank"
    assert sum("nothing to remove" in note for note in notes) == 2
    again = evaluate(task, model, shots=[4], ablate=["labels"])
    assert again[0].tally.asked == 0
    with pytest.raises(UnknownName, match="did you mean 'labels'"):
        evaluate(task, model, ablate=["label"])
