"""What prompts share is computed once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emu2eval.adapters.choices import Question
from emu2eval.adapters.emu2.decoding import Search, generate
from emu2eval.adapters.emu2.features import FeatureCache
from emu2eval.adapters.emu2.prefix import PrefixCache, prefill
from emu2eval.adapters.emu2.ranking import log_probs
from emu2eval.adapters.encoded import Encoded, common

from .conftest import Golden, close, golden_prompt, read

BOI, EOI, IMAGE = 32001, 32002, 32003
IMAGE = [BOI, *[IMAGE] * 4, EOI]
SHOTS = [1, *IMAGE, 500, 501, 502, 13, *IMAGE, 600, 601, 602, 13, 14, 15]
SEARCH = Search(max_new_tokens=6, length_penalty=0.0)


def query(golden: Golden, *words: int, last: int = 2, shots: tuple[int, int] = (0, 1)) -> Encoded:
    return golden_prompt(golden, [*SHOTS, *IMAGE, *words], [*shots, last])


@contextmanager
def counted(golden: Golden) -> Iterator[list[int]]:
    """Positions that the decoder reads, pass by pass: rows x length."""
    sizes: list[int] = []

    def count(_module: Any, _args: Any, kwargs: Any) -> None:
        sizes.append(kwargs["inputs_embeds"].shape[0] * kwargs["inputs_embeds"].shape[1])

    hook = golden.model.decoder.lm.model.register_forward_pre_hook(count, with_kwargs=True)
    yield sizes
    hook.remove()


def test_a_run_reads_its_fixed_demonstrations_once(base: Golden) -> None:
    prefixes = PrefixCache()
    queries = [query(base, 700 + i, 800, last=i % 3) for i in range(5)]
    with counted(base) as sizes:
        for one in queries:
            read(base, [one], prefixes)
    # The first is read whole; the second shows what is fixed; the others read their own part.
    shared = len(SHOTS) + 1  # and [IMG]
    own = len(queries[0]) - shared
    assert sizes == [len(queries[0]), shared, own, own, own, own]


def test_a_batch_reads_what_it_shares_once(base: Golden) -> None:
    queries = [query(base, *range(700, 702 + i), last=i) for i in range(3)]
    with counted(base) as sizes:
        read(base, queries, PrefixCache())
    shared = len(SHOTS) + 1
    assert sizes == [shared, 3 * (len(queries[2]) - shared)]


def test_equal_tokens_with_other_images_are_not_shared(base: Golden) -> None:
    prefixes = PrefixCache()
    one, other = query(base, 700), query(base, 700, shots=(0, 2))
    assert one.ids == other.ids
    assert common([one.signature, other.signature]) == SHOTS.index(13) + 2
    read(base, [one], prefixes)
    close(read(base, [other], prefixes).hidden, read(base, [other]).hidden)


def test_a_limit_on_memory_is_kept(base: Golden) -> None:
    a_position = 2 * 3 * 48 * 4
    prefixes = PrefixCache(max_bytes=20 * a_position)
    queries = [query(base, 700 + i) for i in range(3)]
    got = [read(base, [q], prefixes).hidden for q in queries]
    assert prefixes._segment is not None
    assert prefixes._segment.nbytes <= 20 * a_position
    close(torch.cat(got), read(base, queries).hidden)
    assert read(base, queries, PrefixCache(max_bytes=0)).segments[0].rows == 3


@settings(max_examples=20, deadline=None)
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
    prefixes, kept = PrefixCache(), FeatureCache()
    begins = [(0, 1), (0, 2), (1, 1)]
    for batch in data:
        prompts = [query(base, *words, last=last, shots=begins[b]) for b, last, words in batch]
        features = kept.features(base.model, prompts)
        got = prefill(base.model, prompts, features, prefixes)
        plain = read(base, prompts)
        close(got.hidden, plain.hidden, 5e-5)
        assert generate(base.model, got, SEARCH) == generate(base.model, plain, SEARCH)


def test_log_probs_with_and_without(base: Golden) -> None:
    prefixes = PrefixCache()
    questions = [
        Question(query(base, 700 + i, last=i % 3), ((5, 6), (7,), (8, 9, 10))) for i in range(3)
    ]
    for question in questions:
        prompts = [question.prompt]
        got = log_probs(base.model, read(base, prompts, prefixes), [question])[0]
        assert got == pytest.approx(log_probs(base.model, read(base, prompts), [question])[0], 1e-5)


def test_images_are_encoded_once(base: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = base.model.encode_images
    monkeypatch.setattr(
        base.model, "encode_images", lambda p, n: encoded.append(len(p)) or encode(p, n)
    )
    kept = FeatureCache()
    first = kept.features(base.model, [query(base, 700), query(base, 701, last=0)])
    second = kept.features(base.model, [query(base, 702)])
    assert encoded == [1, 1, 1]
    assert torch.equal(first[0], second[0])
    assert kept.kept.nbytes == 3 * 4 * 32 * 4
    small = FeatureCache(max_bytes=2 * 4 * 32 * 4)
    again = small.features(base.model, [query(base, 700)])
    assert torch.equal(again[0], first[0])
    assert 0 < small.kept.nbytes <= small.kept.max_bytes
