"""The chooser `episode` and the tasks that need it."""

from __future__ import annotations

from collections import Counter

import pytest

from emu2eval.config import load_task
from emu2eval.data.load import load_split
from emu2eval.data.names import names
from emu2eval.data.samples import Samples
from emu2eval.errors import UnknownName
from emu2eval.fewshot.episode import Episode
from emu2eval.pictures import digest


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


def test_controls_take_away_what_there_is_to_learn(colours: Samples) -> None:
    query = colours[0]
    blank = Episode(colours, 0, control="blank").choose(query, 6, 0)
    assert len({digest(d.sample.pictures[0]) for d in blank if d.sample.pictures}) == 1  # type: ignore[arg-type]
    honest, dealt = Episode(colours, 0), Episode(colours, 0, control="shuffled")
    right = 0
    for place in range(300):
        plain = honest.choose(colours[place], 1, 0)[0].sample
        mixed = dealt.choose(colours[place], 1, 0)[0].sample
        assert mixed.pictures == plain.pictures
        right += mixed.answer == plain.answer
    assert 60 < right < 140  # a third, give or take
    with pytest.raises(UnknownName):
        Episode(colours, 0, control="blnk")


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
