"""The rules of drawing demonstrations, each as a property."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from emu2eval.data.samples import Samples
from emu2eval.errors import ConfigError, PlanError
from emu2eval.fewshot import draw
from emu2eval.fewshot.choosers import Balanced, Chooser, Fixed, Random
from emu2eval.fewshot.draw import keyed, permutation
from emu2eval.media import images
from emu2eval.types import Image, Sample

KINDS: list[type[Chooser]] = [Random, Fixed, Balanced]


def image(number: int) -> Image:
    return images.from_pil(PILImage.new("RGB", (1, 1), (number % 256, number // 256, 0)))


IMAGES = [image(i) for i in range(60)]


def pool(size: int = 30, answers: int = 3, shared: int | None = None) -> Samples:
    """shared: that many different images; otherwise each sample has its own."""
    return Samples(
        (
            Sample(
                f"s{i:03d}",
                images=(IMAGES[i % (shared or size)],),
                answer="abcdefghij"[i % answers],
            )
            for i in range(size)
        ),
        where="the pool",
    )


QUERY = Sample("query", images=(IMAGES[59],))


def ids(chooser: Chooser, query: Sample, shots: int, trial: int = 0) -> list[str]:
    return [d.sample.id for d in chooser.choose(query, shots, trial)]


@pytest.mark.parametrize("kind", KINDS)
@given(
    shots=st.integers(0, 28), fewer=st.integers(0, 28), seed=st.integers(), trial=st.integers(0, 5)
)
@settings(max_examples=40, deadline=None)
def test_fewer_shots_are_the_nearest_of_more(
    kind: type[Chooser], shots: int, fewer: int, seed: int, trial: int
) -> None:
    chooser = kind(pool(), seed)
    fewer, more = sorted((fewer, shots))
    far = ids(chooser, QUERY, more, trial)
    assert ids(chooser, QUERY, fewer, trial) == far[more - fewer :]
    assert len(set(far)) == more


@pytest.mark.parametrize("kind", KINDS)
def test_the_query_and_its_image_are_never_shown(kind: type[Chooser]) -> None:
    # Thirty samples on ten images: each query shares its own with two others.
    samples = pool(30, shared=10)
    chooser = kind(samples, 1)
    for query in samples:
        shown = chooser.choose(query, 27, 0)
        assert query.id not in {d.sample.id for d in shown}
        own = images.digest(query.images[0])  # type: ignore[arg-type]
        assert own not in {images.digest(d.sample.images[0]) for d in shown}  # type: ignore[arg-type]
        with pytest.raises(PlanError, match="only 27"):
            chooser.choose(query, 28, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_under_another_name_are_the_same_image(kind: type[Chooser]) -> None:
    data = images.read(IMAGES[3])
    query = Sample("elsewhere", images=(Image(data=data),))
    assert "s003" not in ids(kind(pool(30), 0), query, 29)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_do_not_depend_on_the_order_of_rows(kind: type[Chooser]) -> None:
    samples = list(pool())
    turned = Samples(reversed(samples), where="turned")
    assert ids(kind(pool(), 5), QUERY, 8) == ids(kind(turned, 5), QUERY, 8)


@pytest.mark.parametrize("kind", [Random, Balanced])
def test_draws_differ_between_queries_seeds_and_trials(kind: type[Chooser]) -> None:
    chooser = kind(pool(), 0)
    other = Sample("other", images=QUERY.images)
    drawn = {
        tuple(ids(chooser, QUERY, 8)),
        tuple(ids(chooser, other, 8)),
        tuple(ids(chooser, QUERY, 8, trial=1)),
        tuple(ids(kind(pool(), 1), QUERY, 8)),
    }
    assert len(drawn) == 4


def test_fixed_shows_every_query_the_same() -> None:
    chooser = Fixed(pool(), 0)
    other = Sample("other", images=QUERY.images)
    assert ids(chooser, QUERY, 6) == ids(chooser, other, 6)
    assert ids(chooser, QUERY, 6, trial=1) != ids(chooser, QUERY, 6)


def test_fixed_replaces_only_what_a_query_may_not_see() -> None:
    samples = pool()
    chooser = Fixed(samples, 0)
    usual = ids(chooser, QUERY, 6)
    position = samples.position(usual[2])
    assert position is not None
    own = ids(chooser, samples[position], 6)
    assert usual[2] not in own
    assert set(usual) - set(own) == {usual[2]}


def test_balanced_shows_each_answer_in_turn() -> None:
    # One answer is as rare as two in a hundred, and is still a third of what is shown.
    samples = Samples(
        (
            Sample(f"s{i:03d}", answer="rare" if i < 2 else "ab"[i % 2], fields={"n": str(i)})
            for i in range(100)
        ),
        where="the pool",
    )
    shown = Counter(d.sample.answer for d in Balanced(samples, 0).choose(Sample("q"), 6, 0))
    assert shown == {"rare": 2, "a": 2, "b": 2}
    # When an answer is used up, the others go on.
    assert len(Balanced(samples, 0).choose(Sample("q"), 99, 0)) == 99


def test_balanced_needs_answers_in_text() -> None:
    drawings = Samples([Sample("1", answer=IMAGES[0])], where="drawings")
    with pytest.raises(ConfigError, match="balanced"):
        Balanced(drawings, 0)


def test_random_draws_are_uniform() -> None:
    chooser = Random(pool(10), 0)
    counts = Counter(
        d.sample.id for i in range(2000) for d in chooser.choose(Sample(f"q{i}"), 3, 0)
    )
    # 600 expected each, standard deviation 20.5: five of them either way.
    assert all(498 < count < 702 for count in counts.values())


def test_every_demonstration_says_why() -> None:
    for kind in KINDS:
        assert all("seed 7" in d.why for d in kind(pool(), 7).choose(QUERY, 4, 0))


class _Counting(Samples):
    """Counts how often a sample is looked at."""

    looks = 0

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        type(self).looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("size", [100, 20_000])
def test_the_cost_of_a_draw_does_not_grow_with_the_pool(size: int) -> None:
    samples = _Counting((Sample(f"s{i:06d}", answer="x") for i in range(size)), where="big")
    _Counting.looks = 0
    Random(samples, 0).choose(Sample("q"), 4, 0)
    assert _Counting.looks == 4


@given(st.integers(1, 400), st.text(max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_permutation_is_one(size: int, key: str) -> None:
    assert sorted(permutation(size, key)) == list(range(size))


def test_a_permutation_without_patience_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_PATIENCE", 1)
    assert sorted(permutation(50, "x")) == list(range(50))


def test_keys_with_other_borders_differ() -> None:
    assert keyed("a", "bc") != keyed("ab", "c")
    # The draws are part of every published number: they must never change.
    assert keyed(0, 0, "q0001", 0) == 0x163CF5EFAEBC13A524007F7C13D01092


@pytest.mark.parametrize("said", [{}, {"shown": "[[["}, {"shown": "[1]"}])
def test_listed_without_a_list_says_so(said: dict[str, str]) -> None:
    from emu2eval.errors import UserError
    from emu2eval.fewshot.listed import Listed

    with pytest.raises(UserError, match="'shown'"):
        Listed(Samples.none(), 0).choose(Sample(id="q", fields=said), 1, 0)
