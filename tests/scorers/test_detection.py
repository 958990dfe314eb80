"""Area under the ROC curve, average precision and F1 against slow, separate computations."""

from __future__ import annotations

import doctest
import math
import random
import statistics
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu2eval.errors import ConfigError
from emu2eval.scorers import detection
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.detection import F1, AveragePrecision, Detection, RocAuc
from emu2eval.scorers.roc_auc import RocAucScorer
from emu2eval.types import Response, Sample, Score

Rows = list[tuple[float, bool]]
CASES = st.lists(st.tuples(st.integers(0, 6).map(float), st.booleans()), max_size=30)


def gathered(kind: Detection, rows: Rows, clusters: list[str] | None = None) -> Detection:
    for number, (evidence, positive) in enumerate(rows):
        sample = Sample(str(number), cluster=clusters[number] if clusters else None)
        kind.add(sample, Score(0.0, details={"evidence": evidence, "positive": positive}))
    return kind


def pairs(rows: Rows) -> list[tuple[float, float, float]]:
    """(evidence of a positive, of a negative, 1 where the positive has more, a half for a tie)."""
    ups, downs = ([e for e, p in rows if p is side] for side in (True, False))
    return [(u, d, (u > d) + 0.5 * (u == d)) for u, d in product(ups, downs)]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(detection).failed == 0


@given(CASES)
def test_the_area_is_the_share_of_ordered_pairs_ties_half(rows: Rows) -> None:
    value, _ = gathered(RocAuc(1.0), rows).result()
    won = [w for *_, w in pairs(rows)]
    assert value == (pytest.approx(sum(won) / len(won)) if won else None)


@given(CASES, st.randoms())
def test_the_area_does_not_depend_on_the_order(rows: Rows, chance: random.Random) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    one, two = gathered(RocAuc(), rows).result(), gathered(RocAuc(), shuffled).result()
    assert one == pytest.approx(two)


def noisy(count: int, seed: int = 0) -> Rows:
    chance = random.Random(seed)
    return [(round(chance.gauss(float(i % 3 == 0), 1), 1), i % 3 == 0) for i in range(count)]


def test_the_error_is_delong_s_where_no_samples_share_a_cluster() -> None:
    rows = noisy(60)
    ups, downs = ([e for e, p in rows if p is side] for side in (True, False))
    wins = {
        (i, j): (u > d) + 0.5 * (u == d) for i, u in enumerate(ups) for j, d in enumerate(downs)
    }
    by_up = [statistics.mean(wins[i, j] for j in range(len(downs))) for i in range(len(ups))]
    by_down = [statistics.mean(wins[i, j] for i in range(len(ups))) for j in range(len(downs))]
    variance = statistics.variance(by_up) / len(ups) + statistics.variance(by_down) / len(downs)
    assert gathered(RocAuc(1.0), rows).result()[1] == pytest.approx(math.sqrt(variance))


def test_copies_of_a_sample_add_no_certainty() -> None:
    rows = noisy(45)
    names = [str(i) for i in range(45)]
    one = gathered(RocAuc(), rows, names).result()
    assert gathered(RocAuc(), rows * 4, names * 4).result() == pytest.approx(one)


def test_clusters_that_hold_both_classes_agree_with_leaving_each_out() -> None:
    chance = random.Random(3)
    rows: Rows = []
    clusters = []
    for number in range(80):
        shift = chance.gauss(0, 1.5)
        for member in range(4):
            rows.append((chance.gauss(0.8 * (member % 2), 1) + shift, member % 2 == 1))
            clusters.append(str(number))
    value, error = gathered(RocAuc(1.0), rows, clusters).result()
    left_out = []
    for number in range(80):
        kept = [i for i, c in enumerate(clusters) if c != str(number)]
        part = gathered(RocAuc(1.0), [rows[i] for i in kept]).result()[0]
        assert part is not None
        left_out.append(part)
    jackknife = math.sqrt(79 / 80 * sum((v - statistics.mean(left_out)) ** 2 for v in left_out))
    assert value is not None
    assert error == pytest.approx(jackknife, rel=0.05)
    alone = gathered(RocAuc(1.0), rows).result()[1]
    assert alone is not None and abs(alone - jackknife) > 0.1 * jackknife


@pytest.mark.parametrize("kind", [RocAuc, AveragePrecision])
def test_one_class_alone_has_no_value(kind: type[Detection]) -> None:
    assert gathered(kind(), [(1.0, False), (2.0, False)]).result() == (None, None)
    assert kind().result() == (None, None)


@given(CASES)
def test_average_precision_is_the_sum_over_thresholds(rows: Rows) -> None:
    wanted = sum(p for _, p in rows)
    total, before = 0.0, 0.0
    for threshold in sorted({e for e, _ in rows}, reverse=True):
        taken = [p for e, p in rows if e >= threshold]
        recall = sum(taken) / wanted if wanted else 0
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    value, _ = gathered(AveragePrecision(1.0), rows).result()
    assert value == (pytest.approx(total) if wanted else None)


@given(CASES)
def test_f1_is_of_precision_and_recall(rows: Rows) -> None:
    value, _ = gathered(F1(1.0, threshold=2.5), rows).result()
    both = sum(p for e, p in rows if e > 2.5)
    if not any(positive or e > 2.5 for e, positive in rows):
        assert value is None  # nothing to be found, and nothing found
    elif not both:
        assert value == 0
    else:
        precision = both / sum(e > 2.5 for e, _ in rows)
        recall = both / sum(p for _, p in rows)
        assert value == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_number_without_meaning_says_why() -> None:
    one_class: Rows = [(1.0, True), (2.0, True)]
    assert gathered(RocAuc(), one_class).undefined() == "all samples belong to one class"
    none = [(evidence, False) for evidence, _ in one_class]
    for made in (AveragePrecision(), F1(threshold=2.5)):
        assert gathered(made, none).result()[0] is None
        assert "no sample belongs to the positive class" in (gathered(made, none).undefined() or "")
        assert gathered(made, one_class).undefined() is None


def ranked(no: float, yes: float, reference: tuple[str, ...] = ("yes",)) -> Score:
    sample = Sample("1", references=reference, choices=("no", "yes"))
    return RocAucScorer().score(sample, Response(log_probs=(no, yes)))


def test_the_value_is_the_probability_of_the_positive_answer() -> None:
    score = ranked(math.log(0.2), math.log(0.6), ("no",))
    assert score.value == pytest.approx(0.75)
    assert score.prediction == "yes"
    assert score.details["positive"] is False


def test_probabilities_that_round_to_one_still_differ() -> None:
    surer, sure = ranked(-900.0, -1.0), ranked(-90.0, -1.0)
    assert surer.value == sure.value == 1
    assert surer.details["evidence"] > sure.details["evidence"]
    assert ranked(-1.0, -1e9).value == 0


def test_a_hidden_label_is_unscored_and_its_probability_kept() -> None:
    score = ranked(-1.0, -1.0, ())
    assert score.value is None
    assert score.details["probability"] == 0.5


def test_choices_that_cannot_be_ranked_are_refused() -> None:
    sample = Sample("1", references=("yes",), choices=("hateful", "benign"))
    with pytest.raises(
        ConfigError, match="'yes' against others; sample '1' has the choices hateful"
    ):
        RocAucScorer().score(sample, Response(log_probs=(-1.0, -2.0)))
    with pytest.raises(ScoringError, match="2 choices, its response 0 log-prob"):
        RocAucScorer("benign").score(sample, Response(text="benign"))
