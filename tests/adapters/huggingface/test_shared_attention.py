"""Rows that share a beginning attend to one copy of it, and to the same as if each had its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from emu2eval.adapters.local import attention, cache, inference, kernels
from emu2eval.adapters.local.attention import attend
from emu2eval.types import ChoiceOutput

from .prompts import CHOICES, built, prompt, request

ROWS, WIDTH, SHARED, SECOND = 6, 8, 11, 4


@pytest.fixture(params=["fused", "scored", "scored in steps", "joined"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's kernel, and what stands in for it on other devices."""
    if request.param.startswith("scored"):
        monkeypatch.setattr(kernels, "part", kernels.scored)
    monkeypatch.setattr(attention, "_joins", lambda query: request.param == "joined")
    if request.param == "scored in steps":
        monkeypatch.setattr(kernels, "SCORES", 2 * ROWS * 4 * SHARED)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kinds", [4, 2, 1])
@pytest.mark.parametrize("new", [1, 7])
@pytest.mark.parametrize("prompts", [1, 2, 3])
@pytest.mark.parametrize(
    "seen",
    ["causal", "on its own", "own padding", "prompts' padding", "everything masked", "added"],
)
def test_segments_are_joined_keys(kinds: int, new: int, prompts: int, seen: str) -> None:
    """One row for everybody, then one for the beams of each prompt, then each row's own."""
    torch.manual_seed(0)
    own = new + 2 * (seen != "on its own")
    query = torch.randn(ROWS, 4, new, WIDTH)
    lengths = (SHARED, SECOND, own)
    keys, values = (
        tuple(
            torch.randn(rows, kinds, length, WIDTH)
            for rows, length in zip((1, prompts, ROWS), lengths, strict=True)
        )
        for _ in range(2)
    )
    causal = torch.ones(new, own, dtype=torch.bool).tril(own - new).expand(ROWS, 1, -1, -1).clone()
    whole = torch.cat([torch.ones(ROWS, 1, new, SHARED + SECOND, dtype=torch.bool), causal], -1)
    if seen not in ("causal", "on its own"):
        whole[1, ..., SHARED + SECOND] = False
    if seen == "everything masked":
        whole[..., :3] = False
        whole[2, ..., SHARED - 2 : SHARED + 1] = False
    if seen == "prompts' padding":
        whole[: ROWS // prompts, ..., SHARED : SHARED + 3] = False
    given: Any = whole
    if seen in ("causal", "on its own"):
        given = None
    elif seen == "own padding":
        given = whole[..., SHARED + SECOND :]
    elif seen == "prompts' padding":
        given = whole[..., SHARED:]
    elif seen == "added":
        given = torch.zeros(whole.shape).masked_fill(~whole, -1e9)
    module = torch.nn.Module()
    module.num_key_value_groups = 4 // kinds
    found, _ = attend(module, query, keys, values, given, scaling=0.3)
    each = [
        [part.repeat_interleave(ROWS // len(part), 0) for part in parts] for parts in (keys, values)
    ]
    joined = [torch.cat(parts, 2).repeat_interleave(4 // kinds, 1) for parts in each]
    wanted = F.scaled_dot_product_attention(
        query, joined[0], joined[1], whole, scale=0.3
    ).transpose(1, 2)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.usefixtures("kernel")
def test_a_row_that_sees_nothing_of_its_own() -> None:
    """Padding: its answer is thrown away, but it must be a number."""
    query = torch.randn(2, 1, 3, WIDTH, dtype=torch.bfloat16)
    parts = tuple(torch.randn(rows, 1, 3, WIDTH, dtype=torch.bfloat16) for rows in (1, 2))
    mask = torch.ones(2, 1, 3, 3, dtype=torch.bool).tril()
    mask[1] = False
    found, _ = attend(torch.nn.Module(), query, parts, parts, mask)
    assert found.isfinite().all()
    shared = F.scaled_dot_product_attention(query[1:], parts[0], parts[0]).transpose(1, 2)
    assert torch.allclose(found[1:], shared, atol=0.02)


@pytest.mark.parametrize("alone", [1, 10**6])
def test_rows_read_alone_or_together(
    model_file: Callable[..., str], family: str, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared beginning or none, rows of unlike lengths."""
    monkeypatch.setattr(inference, "ALONE", alone)
    plain, quick = built(model_file(family), reuse=False), built(model_file(family))
    plain.load()
    quick.load()
    alike = [request(prompt(2, query)) for query in (0, 5, 1)]
    other = [request(prompt(query % 3, query, first=query)) for query in (3, 4, 5)]
    for asked in (alike, other, alike[:2]):
        wanted = [plain.answer([one])[0].text for one in asked]
        assert [response.text for response in quick.answer(asked)] == wanted
        assert [response.text for response in plain.answer(asked)] == wanted


def test_a_model_that_drops_positions_is_asked_without_padding(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXAONE 4.5 counts the places of its cache, so that padding would move a shorter prompt's answer."""
    monkeypatch.setattr(inference, "ALONE", 1)
    plain = built(model_file("exaone4_5"), reuse=False)
    plain.load()
    asked = [request(prompt(query % 3, query, first=query)) for query in (3, 4, 5)]
    wanted = [plain.answer([one])[0].text for one in asked]
    assert [response.text for response in plain.answer(asked)] == wanted


def test_a_decoder_that_shares_no_rows_keeps_its_own_attention(
    model_file: Callable[..., str],
) -> None:
    """Under another name than "sdpa" dots3-note attends to all positions and not to those it chooses."""
    adapter = built(model_file("dots3_note"))
    adapter.load()
    reader = adapter._inference.reader
    assert not reader.segments
    assert reader.config._attn_implementation == "sdpa"


def test_a_beginning_is_stored_once(
    model_file: Callable[..., str], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the rows of a batch nor the choices of a question copy what stands before them."""
    adapter = built(model_file(family))
    adapter.load()
    assert adapter._inference is not None
    made: list[Any] = []
    own = cache.RoomyLayer.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(cache.RoomyLayer, "__init__", noted)
    adapter.answer([request(prompt(4, query)) for query in range(4)])
    known = adapter._inference.prefix
    assert known is not None
    layers: Any = known.kept[-1].cache.layers
    held = {layer.keys.data_ptr() for layer in layers}
    above = [layer for layer in made if layer.before]
    assert above and all(layer.shared > 60 for layer in above)
    assert {layer.before[0][0].data_ptr() for layer in above} == held
    assert max(layer.own for layer in above) < 60
    made.clear()
    choices = ChoiceOutput(("red blue", "green red", "blue"))
    adapter.answer([request(prompt(4, query), choices) for query in (1, 2)])
    several = [layer for layer in made if layer.own and layer.keys.shape[0] > 1]
    assert several and all(len(layer.before) == 2 for layer in several)
    assert {layer.before[0][0].data_ptr() for layer in several} == held


def test_other_attention_is_left_alone(model_file: Callable[..., str]) -> None:
    """Where it does not take segments, each row has a copy of the beginning, and the same answers."""
    asked = [request(prompt(4, query)) for query in range(3)]
    answers, ranked = [], []
    for given in ({"attention": "eager"}, {"attention": "sdpa"}, {"reuse": False}):
        adapter = built(model_file("idefics3"), **given)
        adapter.load()
        assert adapter._inference is not None
        assert adapter._inference.reader.segments == (given == {"attention": "sdpa"})
        answers.append([response.text for response in adapter.answer(asked)])
        ranked.append(adapter.answer([request(prompt(4, 0), CHOICES)])[0].log_probs)
    assert answers[0] == answers[1] == answers[2]
    assert ranked[0] == pytest.approx(ranked[2], abs=1e-3)
    assert ranked[1] == pytest.approx(ranked[2], abs=1e-3)
