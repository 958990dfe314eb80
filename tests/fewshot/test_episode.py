"""The chooser `episode` and the tasks that need it."""

from __future__ import annotations

from collections import Counter

import pytest

from emu2eval.data.load import load_split
from emu2eval.data.names import names
from emu2eval.data.samples import Samples
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import Questions
from emu2eval.engine.tasks import opened
from emu2eval.fewshot.episode import Episode
from emu2eval.spec.task import load_task
from emu2eval.types import Shots


@pytest.fixture(scope="module")
def colours() -> Samples:
    return load_split(load_task("easy-vqa-binding"), "colors")


def test_names_kept_for_tests_are_apart_and_every_syllable_is_trained() -> None:
    kept, trained = names(kept=True), names(kept=False)
    assert not set(kept) & set(trained)
    for part in (slice(0, 2), slice(2, 4)):
        assert {n[part] for n in kept} <= {n[part] for n in trained}


def test_episodes_are_balanced_deterministic_and_of_new_names(colours: Samples) -> None:
    again = load_split(load_task("easy-vqa-binding"), "colors")
    assert again.digest == colours.digest
    kept = set(names(kept=True))
    by_episode: dict[str | None, list[str]] = {}
    for sample in colours:
        assert isinstance(sample.answer, str) and sample.answer in kept
        assert sample.references == (sample.answer,)
        by_episode.setdefault(sample.cluster, []).append(sample.answer)
    assert len(by_episode) == 60
    assert all(sorted(Counter(a).values()) == [7, 7, 7] for a in by_episode.values())


def test_rounds_show_every_name_and_are_nested(colours: Samples) -> None:
    chooser = Episode(colours, seed=0)
    for place in (0, 100, 1000):
        query = colours[place]
        shown = [d.sample for d in chooser.choose(query, 18, 0)]
        assert {s.cluster for s in shown} == {query.cluster}
        assert query.id not in {s.id for s in shown}
        for start in range(0, 18, 3):
            assert len({s.answer for s in shown[start : start + 3]}) == 3
        fewer = [d.sample.id for d in chooser.choose(query, 4, 0)]
        assert fewer == [s.id for s in shown[-4:]]


def test_one_shot_shows_the_answer_to_a_third_of_the_queries(colours: Samples) -> None:
    chooser = Episode(colours, seed=0)
    shown = [chooser.choose(query, 1, 0)[0].sample.answer == query.answer for query in colours]
    # 1,260 fair draws of a third: within three standard errors of 1.3 %.
    assert 0.293 < sum(shown) / len(shown) < 0.374
    for shots, ceiling in ((2, 2 / 3), (3, 1)):
        known = [
            query.answer in {d.sample.answer for d in chooser.choose(query, shots, 0)}
            for query in colours
        ]
        assert sum(known) / len(known) == pytest.approx(ceiling, abs=0.04)


def test_ablation_takes_away_what_there_is_to_learn() -> None:
    """Of three names dealt among three demonstrations, one in three stays at its image."""
    task = opened(load_task("easy-vqa-binding"))
    pool = load_split(task.task, "colors")
    questions = Questions(task, pool, limit=100)
    right = total = 0
    for ablation in ("none", "labels"):
        prompts = Prompts(questions, Shots(3), pool, Episode(pool, 0), ablation=ablation)
        for made in map(prompts.at, questions):
            for turn, shown in zip(made.prompt.turns, made.demonstrations, strict=True):
                right += turn.reply[0] == shown.sample.answer
                total += 1
        if ablation == "none":
            assert right == total
            right = total = 0
    # 300 of a third, within four standard errors.
    assert 0.22 < right / total < 0.45


def test_operator_answers_follow_one_rule_an_episode() -> None:
    samples = load_split(load_task("easy-vqa-operator"), "test")
    assert Counter(s.groups["rule"] for s in samples) == dict.fromkeys(
        ("color", "shape", "color shape", "shape color"), 270
    )
    for sample in samples:
        assert len(str(sample.answer).split()) == len(sample.groups["rule"].split())


def test_combinations_apart_are_reported_as_a_group() -> None:
    groups = Counter(s.groups["combination"] for s in load_split(load_task("easy-vqa"), "test"))
    assert set(groups) == {"teal circle", "yellow rectangle", "red triangle", "other"}
    assert sum(groups.values()) == 9673
