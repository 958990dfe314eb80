"""What prompts share is computed once, and nothing else changes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emu2eval.adapters.emu2.features import TowerEncoder
from emu2eval.adapters.local.bounded import Bounded
from emu2eval.adapters.local.cache import RoomyLayer, held_bytes
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded, common
from emu2eval.adapters.local.pieces import Pieces
from emu2eval.adapters.local.prefix import Prefix
from emu2eval.adapters.local.search import Search

from .conftest import Golden, close, golden_prompt, inference, logits

BOI, EOI, IMAGE = 32001, 32002, 32003
IMAGE = [BOI, *[IMAGE] * 4, EOI]
SHOTS = [1, *IMAGE, 500, 501, 502, 13, *IMAGE, 600, 601, 602, 13, 14, 15]
SEARCH = Search(max_new_tokens=6, beams=5, length_penalty=0.0)


def query(golden: Golden, *words: int, last: int = 2, shots: tuple[int, int] = (0, 1)) -> Encoded:
    return golden_prompt(golden, [*SHOTS, *IMAGE, *words], [*shots, last])


@contextmanager
def counted(golden: Golden) -> Iterator[list[int]]:
    """Positions that the decoder reads, pass by pass: rows x length."""
    sizes: list[int] = []

    def count(_module: Any, given: Any) -> None:
        sizes.append(given[0].shape[0] * given[0].shape[1])

    hook = golden.model.decoder.register_forward_pre_hook(count)
    yield sizes
    hook.remove()


def test_a_run_reads_its_fixed_demonstrations_once(base: Golden) -> None:
    asked = inference(base, reuse=True)
    queries = [query(base, 700 + i, 800, last=i % 3) for i in range(5)]
    with counted(base) as sizes:
        for one in queries:
            logits(asked, [one])
    # The first is read whole; the second shows what is fixed; the others read their own part.
    shared = len(SHOTS) + 1  # and [IMG]
    own = len(queries[0]) - shared
    assert sizes == [len(queries[0]), shared, own, own, own, own]


def test_keys_and_values_are_freed_with_their_batch(
    base: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the collector of cycles: it does not see how much memory of a GPU a cycle holds.
    monkeypatch.setattr("emu2eval.adapters.local.inference.ALONE", 8)
    asked = inference(base, reuse=False)
    gc.collect()
    before = sum(type(one) is RoomyLayer for one in gc.get_objects())
    gc.disable()
    try:
        asked.texts([query(base, *range(700, 702 + i), last=i) for i in range(3)], SEARCH)
        after = sum(type(one) is RoomyLayer for one in gc.get_objects())
    finally:
        gc.enable()
    assert after == before


def test_a_batch_reads_what_it_shares_once(base: Golden) -> None:
    queries = [query(base, *range(700, 702 + i), last=i) for i in range(3)]
    with counted(base) as sizes:
        logits(inference(base, reuse=True), queries)
    shared = len(SHOTS) + 1
    assert sizes == [shared, 3 * (len(queries[2]) - shared)]


def test_equal_tokens_with_other_images_are_not_shared(base: Golden) -> None:
    asked = inference(base, reuse=True)
    one, other = query(base, 700), query(base, 700, shots=(0, 2))
    assert one.ids == other.ids
    assert common([one.signature, other.signature]) == SHOTS.index(13) + 2
    logits(asked, [one])
    close(logits(asked, [other]), logits(inference(base), [other]))


def test_a_longer_beginning_is_read_on_top_of_what_is_known(base: Golden) -> None:
    asked = inference(base, reuse=True)
    longer = [query(base, *range(700, 720), 900 + i) for i in range(2)]
    with counted(base) as sizes:
        got = torch.cat([logits(asked, [one]) for one in (query(base, 5), query(base, 6), *longer)])
    known = len(SHOTS) + 1 + 4 + 1  # the query's image as well
    assert sizes[:3] == [known + 1, known, 1]
    assert sizes[3:] == [len(longer[0]) - known, len(longer[0]) - 1 - known, 1]
    close(got[2:], logits(inference(base), longer))


def test_a_limit_on_memory_is_kept(base: Golden) -> None:
    a_position = 2 * 3 * 48 * 4
    asked = inference(base)
    asked.prefix = Prefix(asked.reader, max_bytes=20 * a_position)
    queries = [query(base, 700 + i) for i in range(3)]
    got = [logits(asked, [q]) for q in queries]
    assert 0 < held_bytes(asked.prefix.kept[-1].cache) <= 20 * a_position
    close(torch.cat(got), logits(inference(base), queries))
    asked.prefix = Prefix(asked.reader, max_bytes=0)
    assert asked.prefix.shared(queries) == 0


@settings(max_examples=10, deadline=None)
@given(
    data=st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 2),  # how the prompt begins
                st.integers(0, 2),  # which image its query shows
                st.lists(st.integers(3, 9), min_size=1, max_size=4),
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_order_of_prompts_gives_the_same(base: Golden, data: Any) -> None:
    quick, plain = inference(base, reuse=True), inference(base)
    begins = [(0, 1), (0, 2), (1, 1)]
    for batch in data:
        prompts = [query(base, *words, last=last, shots=begins[b]) for b, last, words in batch]
        close(logits(quick, prompts), logits(plain, prompts), 5e-5)
        assert quick.texts(prompts, SEARCH) == plain.texts(prompts, SEARCH)


def test_log_probs_with_and_without(base: Golden) -> None:
    quick, plain = inference(base, reuse=True), inference(base)
    questions = [
        Question(Pieces.whole(query(base, 700 + i, last=i % 3)), ((5, 6), (7,), (8, 9, 10)))
        for i in range(3)
    ]
    for question in questions:
        got = quick.choices([question])[0]
        assert got == pytest.approx(plain.choices([question])[0], 1e-5)


def test_images_are_encoded_once(base: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = base.model.encode_images
    monkeypatch.setattr(
        base.model, "encode_images", lambda p, n: encoded.append(len(p)) or encode(p, n)
    )
    encoder = TowerEncoder(base.model)
    encoder.hold([query(base, 700), query(base, 701, last=0)])
    first = {key: found.pooled for key, found in encoder._held.items()}
    encoder.hold([query(base, 702)])
    assert encoded == [1, 1, 1]
    assert all(torch.equal(found.pooled, first[key]) for key, found in encoder._held.items())
    assert encoder.kept.nbytes == 3 * 4 * 32 * 4
    shown = query(base, 700).shown
    copies = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda one: copies.append(one.shape) or cpu(one))
    anew = TowerEncoder(base.model).several(shown)
    assert copies == [(3 * 4, 32)]  # the device is waited for once
    assert all(torch.equal(found.pooled, first[key]) for key, found in anew.items())
    small = TowerEncoder(base.model)
    small.kept = Bounded(2 * 4 * 32 * 4)
    small.hold([query(base, 700)])
    assert all(torch.equal(found.pooled, first[key]) for key, found in small._held.items())
    assert 0 < small.kept.nbytes <= small.kept.max_bytes
