"""Nearest neighbours against plain numpy, with ties and near ties, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu2eval.fewshot import search
from emu2eval.fewshot.search import Side, Table, everything, nearest

Matrix = npt.NDArray[np.float16]


def vectors(rows: int, width: int, seed: int, kinds: int = 1 << 30) -> Matrix:
    """Unit vectors; kinds: only that many different ones, the others are equal or a last bit off."""
    chance = np.random.default_rng(seed)
    found = chance.standard_normal((rows, width))
    found = found[np.arange(rows) % kinds]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    half = found.astype(np.float16)
    nudged = np.arange(rows) // kinds % 3 == 1
    half[nudged, 0] = np.nextafter(half[nudged, 0], np.float16(2))
    return half


def table(rows: Matrix, folder: Path) -> Table:
    return Table(*rows.shape, blocks=[rows[:7], rows[7:]], folder=folder)


def plain(ask: Matrix, pool: Matrix) -> npt.NDArray[np.float64]:
    a, b = ask.astype(np.float64), pool.astype(np.float64)
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    # Rounded far below one bit of float16, so that what is equal stays equal.
    return np.round(a @ b.T / scale, 13)


def ranking(similarity: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.argsort(-similarity, axis=1, kind="stable")


def side(ask: Matrix, pool: Matrix, folder: Path, weight: float = 1.0) -> Side:
    rows, units = np.arange(len(ask)), np.arange(len(pool))
    return Side(weight, table(pool, folder), table(ask, folder), units, rows)


@given(
    units=st.integers(1, 600),
    queries=st.integers(1, 9),
    width=st.integers(2, 40),
    keep=st.integers(1, 40),
    kinds=st.sampled_from([1, 3, 50, 1 << 30]),
    seed=st.integers(0, 1000),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_a_plain_ranking(
    tmp_path: Path, units: int, queries: int, width: int, keep: int, kinds: int, seed: int
) -> None:
    pool, ask = vectors(units, width, seed, kinds), vectors(queries, width, seed + 1)
    best, similarity = nearest([side(ask, pool, tmp_path)], keep)
    expected = plain(ask, pool)
    assert best.tolist() == ranking(expected)[:, :keep].tolist()
    np.testing.assert_allclose(
        similarity, np.take_along_axis(expected, best.astype(np.int64), 1), atol=1e-12
    )


def test_does_not_depend_on_what_is_asked_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, ask = vectors(5000, 64, 0, kinds=900), vectors(40, 64, 1)
    whole, similarity = nearest([side(ask, pool, tmp_path)], 12)
    monkeypatch.setattr(search, "ROOM", 5000 * 3)
    monkeypatch.setattr(search, "_BLOCK", 700)
    monkeypatch.setattr(search, "_PAIRS", 11)
    again, also = nearest([side(ask, pool, tmp_path)], 12)
    assert (again == whole).all()
    assert (also == similarity).all()
    for query in range(0, 40, 13):
        alone, _ = nearest([side(ask[query : query + 1], pool, tmp_path)], 5)
        assert (alone[0] == whole[query, :5]).all()
        order, exact = everything([side(ask, pool, tmp_path)], query)
        assert (order[:12] == whole[query]).all()
        assert (exact[:12] == similarity[query]).all()
        assert sorted(order) == list(range(5000))


def test_two_sides_add_up_by_weight(tmp_path: Path) -> None:
    images, words = vectors(30, 24, 0), vectors(20, 16, 1)
    ask, asked = vectors(6, 24, 2), vectors(6, 16, 3)
    # 200 units: each of thirty images with several of twenty texts.
    image_of, text_of = np.arange(200) % 30, np.arange(200) * 7 % 20
    rows = np.arange(6)
    sides = [
        Side(0.25, table(images, tmp_path), table(ask, tmp_path), image_of, rows),
        Side(0.75, table(words, tmp_path), table(asked, tmp_path), text_of, rows),
    ]
    best, _ = nearest(sides, 9)
    expected = 0.25 * plain(ask, images)[:, image_of] + 0.75 * plain(asked, words)[:, text_of]
    assert best.tolist() == ranking(np.round(expected, 13))[:, :9].tolist()


def test_a_zero_vector_is_like_nothing(tmp_path: Path) -> None:
    pool = vectors(4, 8, 0)
    pool[2] = 0
    best, similarity = nearest([side(pool[:1], pool, tmp_path)], 4)
    assert best[0, 0] == 0
    assert similarity[0][best[0] == 2] == 0
