"""Caption metrics against what the official scorers gave, and each of their quirks."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.registry import build
from emu2eval.scorers import caption_java as programs
from emu2eval.scorers import caption_stats as stats
from emu2eval.scorers.captions import Captions
from emu2eval.statistics.bootstrap import BootstrapOfSums
from emu2eval.types import Response, Sample, Score

VECTORS = Path(__file__).parent / "vectors" / "captions.json"
CORPORA = {c["name"]: c for c in json.loads(VECTORS.read_text(encoding="utf-8"))["corpora"]}
OFFICIAL = {f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)} | {"ROUGE_L": "ROUGE-L"}
QUICK = ("cider", "bleu", "rouge_l")
Answered = list[tuple[Sample, Response]]

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")


def answer(name: str, caption: str, references: Sequence[str]) -> tuple[Sample, Response]:
    sample = Sample(name, references=tuple(references), cluster=name)
    return sample, Response(text=caption)


def corpus(name: str) -> Answered:
    cases = CORPORA[name]["cases"]
    return [answer(str(c["id"]), c["hypothesis"], c["references"]) for c in cases]


def scored(answered: Answered, *metrics: str) -> tuple[Captions, list[Score]]:
    scorer = Captions(metrics or QUICK)
    scorer.prepare(iter(answered))
    return scorer, [scorer.score(*pair) for pair in answered]


def table(
    scorer: Captions, answered: Answered, scores: list[Score]
) -> dict[str, tuple[float | None, float | None]]:
    """Value and error of each number, for a set or for a part of it."""
    summaries = scorer.summaries()
    for summary in summaries:
        for (sample, _), score in zip(answered, scores, strict=True):
            summary.accumulator.add(sample, score)
    return {summary.metric: summary.accumulator.result() for summary in summaries}


def official(scores: dict[str, float]) -> dict[str, float]:
    return {OFFICIAL.get(name, name): value for name, value in scores.items()}


@needs_java
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "main20" else n for n in CORPORA],
)
def test_equals_the_official_scorers(name: str) -> None:
    # METEOR takes some seconds to start: once is enough.
    metrics = (*QUICK, "meteor") if name == "main20" else QUICK
    answered = corpus(name)
    scorer, scores = scored(answered, *metrics)
    for score, case in zip(scores, CORPORA[name]["cases"], strict=True):
        got, expected = {"CIDEr": score.value, **score.details}, official(case["scores"])
        assert got == pytest.approx({k: expected[k] for k in got}, rel=1e-12, abs=1e-15)
        assert score.prediction == case["hypothesis_tokenised"]
    rows = table(scorer, answered, scores)
    expected = official(CORPORA[name]["scores"])
    assert len(rows) == len(metrics) + 3
    for metric, (value, error) in rows.items():
        if metric == "CIDEr" and len(answered) == 1:
            # Officially 0, beside a BLEU of 100: the weights of one image are all zero.
            assert (value, error, expected[metric]) == (None, None, 0)
            continue
        assert value == pytest.approx(expected[metric] * 100, rel=1e-12, abs=1e-15)
        assert (error is None) == (len(answered) == 1)
        assert error is None or error > 0
    if "meteor" in metrics:
        # A part's METEOR is the program's aggregate of that part: here the mean of a single caption.
        part = table(scorer, answered[1:2], scores[1:2])
        assert part["METEOR"][0] == pytest.approx(31.49799076943976, rel=1e-12)


@needs_java
def test_tokens_of_the_references_are_the_official_ones_too() -> None:
    cases = [case for c in CORPORA.values() for case in c["cases"]]
    raw = [reference for case in cases for reference in case["references"]]
    wanted = [reference for case in cases for reference in case["references_tokenised"]]
    assert programs.tokenize(raw) == wanted


QUIRKS = [
    ("brackets stay, in lower case", "a sign (red)", "a sign -lrb- red -rrb-"),
    ("punctuation goes", 'One, "two"; 3: 4 -- 5 - 6... 7?', "one two 3 4 5 6 7"),
    ("several exclamation marks are one word, which stays", "oh!!!", "oh !!!"),
    ("one exclamation mark goes", "oh!", "oh"),
    ("hyphens and times hold together", "2-story at 3:30 p.m.", "2-story at 3:30 p.m."),
    ("slashes hold together", "on/near", "on/near"),
    ("the ampersand is a word", "salt & pepper", "salt & pepper"),
    ("possessives and negations are split off", "The man's dog doesn't", "the man 's dog does n't"),
    ("a newline is a space", "a bowl\nof fruit", "a bowl of fruit"),
    ("blank stays blank", "  ", ""),
    ("punctuation alone is blank", "...!", ""),
    ("accents are kept", "a jalapeño in a café", "a jalapeño in a café"),
]  # fmt: skip


@needs_java
def test_quirks_of_the_tokenizer() -> None:
    got = programs.tokenize([text for _, text, _ in QUIRKS])
    assert dict(zip([q[0] for q in QUIRKS], got, strict=True)) == {q[0]: q[2] for q in QUIRKS}


@needs_java
def test_a_caption_does_not_depend_on_its_neighbours() -> None:
    """The official wrapper gives "room no." a period or not by the caption that comes after it."""
    ends = ["the letter a.", "a door with no.", "drinks, food &c."]
    alone = [programs.tokenize([text])[0] for text in ends]
    assert programs.tokenize([ends[0], "a dog", ends[1], "A dog", ends[2]])[::2] == alone
    # What ends lines for the tokenizer but not for the wrapper would shift every caption after it.
    breaks = ["one\rtwo", "one\u2028two", "one\x0btwo", "one\x85two", "one\x0ctwo"]
    assert programs.tokenize([*breaks, "last"]) == ["one two"] * 5 + ["last"]


@needs_java
def test_the_locale_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert programs.tokenize(["a café"]) == ["a café"]


def test_bleu_is_a_corpus_number_and_not_a_mean() -> None:
    short = stats.bleu_statistics("a dog", ["a dog"])
    long = stats.bleu_statistics("a cat sits on a red mat", ["the bird flies over blue seas today"])
    whole = float(stats.bleu(np.add(short, long), 1))
    assert whole == pytest.approx(2 / 9)
    assert whole != pytest.approx((float(stats.bleu(short, 1)) + float(stats.bleu(long, 1))) / 2)


def test_bleu_counts_clipped_words_and_takes_the_closest_length() -> None:
    assert stats.bleu_statistics("the the the", ["the cat", "a cat sits on it"])[:2] == (3, 2)
    assert stats.bleu_statistics("the the the", ["the cat", "the the"])[6] == 2
    # Of two lengths equally near, the shorter.
    assert stats.bleu_statistics("a b c", ["a b", "a b c d"])[1] == 2
    penalty = float(stats.bleu(stats.bleu_statistics("a dog", ["a dog runs fast"]), 1))
    assert penalty == pytest.approx(math.exp(1 - 4 / 2))


def test_bleu_without_a_right_4_gram_is_small_and_not_zero() -> None:
    words = stats.bleu_statistics("a b c d e", ["a b c x d e"])
    assert 0 < float(stats.bleu(words, 4)) < 1e-3
    assert float(stats.bleu(stats.bleu_statistics("", ["a dog"]), 4)) == 0


@needs_java
def test_rouge_takes_precision_and_recall_from_different_references() -> None:
    # Precision 1 by the long reference, recall 1 by the short one: no single reference gives both.
    _, (score,) = scored([answer("x", "a dog runs", ["a", "so a dog runs off now"])])
    assert score.details["ROUGE-L"] == 1


def test_cider_of_one_image_is_zero_and_so_is_a_blank_caption() -> None:
    assert stats.cider([("x", "a dog")], {"x": ["a dog"]}) == [0.0]
    assert stats.cider([("x", ""), ("y", "a cat")], {"x": ["a dog"], "y": ["a cat"]})[0] == 0


def test_ciders_length_counts_pairs_of_words() -> None:
    """One word has length 0 as no word has: its length term is that of one word fewer."""
    references = {"x": ["dog dog"], "y": ["cat"], "z": ["bird"]}
    one, *_ = stats.cider([("x", "dog"), ("y", "cat"), ("z", "bird")], references)
    # Of the four lengths of n-grams only single words are shared; min(1, 2) * 2 / (1 * 2) = 1.
    assert one == pytest.approx(10 / 4 * math.exp(-(1**2) / (2 * 6**2)))


def test_cider_depends_on_the_images_given() -> None:
    cases = CORPORA["main20"]["cases"]
    references = {str(c["id"]): c["references_tokenised"] for c in cases}
    captions = [(str(c["id"]), c["hypothesis_tokenised"]) for c in cases]
    whole = stats.cider(captions, references)
    halves = stats.cider(captions[:10], references) + stats.cider(captions[10:], references)
    assert np.mean(whole) == pytest.approx(CORPORA["main20"]["scores"]["CIDEr"], rel=1e-12)
    assert np.mean(halves) != pytest.approx(np.mean(whole), rel=1e-3)
    # In whatever order.
    assert stats.cider(captions[::-1], references)[::-1] == pytest.approx(whole, rel=1e-12)


def test_several_trials_share_the_images_of_cider() -> None:
    references = {"x": ["a dog runs", "one dog"], "y": ["a cat sleeps"], "z": ["two birds"]}
    first = [("x", "a dog runs"), ("y", "a cat"), ("z", "birds")]
    second = [("x", "one dog"), ("y", "a sleeping cat")]  # z failed
    both = stats.cider(first + second, references)
    assert both[:3] == stats.cider(first, references)
    assert both[3:] == stats.cider([*second, ("z", "")], references)[:2]


@needs_java
def test_a_group_has_word_frequencies_of_its_own() -> None:
    answered = corpus("main20")
    scorer, scores = scored(answered)
    part, _ = scored(answered[:7])
    own = table(part, answered[:7], [part.score(*pair) for pair in answered[:7]])
    assert table(scorer, answered[:7], scores[:7])["CIDEr"] == pytest.approx(own["CIDEr"])
    assert own["CIDEr"][0] != pytest.approx(100 * np.mean([score.value for score in scores[:7]]))


def test_the_error_of_a_sum_is_a_bootstrap_over_images() -> None:
    """For a plain mean it is near the formula; captions of one image are drawn together."""
    random = np.random.default_rng(3)
    mean = BootstrapOfSums(
        lambda sample, score: (score.value or 0.0, 1.0), lambda s: s[..., 0] / s[..., 1]
    )
    values = random.normal(size=400)
    for number, value in enumerate(values):
        mean.add(Sample(str(number)), Score(float(value)))
    value, error = mean.result()
    assert value == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / 20, rel=0.1)
    assert mean.result() == (value, error)
    twice = BootstrapOfSums(mean.parts, mean.formula)
    for trial in range(2):
        for number, value in enumerate(values):
            twice.add(Sample(f"{number}/{trial}", cluster=str(number)), Score(float(value)))
    assert twice.result()[1] == pytest.approx(error)


@needs_java
def test_cider_of_one_image_is_no_number_and_says_so() -> None:
    scorer, scores = scored(corpus("one_image"))
    cider = scorer.summaries()[0].accumulator
    cider.add(corpus("one_image")[0][0], scores[0])
    assert cider.result() == (None, None)
    assert "needs more than one image" in (cider.undefined() or "")
    cider.add(replace(corpus("one_image")[0][0], id="another"), scores[0])
    assert cider.undefined() is None


@needs_java
def test_metrics_are_chosen_and_missing_spice_is_said() -> None:
    answered = corpus("one_image")
    scorer, (score,) = scored(answered, "rouge_l")
    assert (scorer.label, score.value, dict(score.details)) == ("ROUGE-L", 0.625, {})
    assert [summary.metric for summary in scorer.summaries()] == ["ROUGE-L"]
    whole = Captions()
    if programs.no_spice() is None:
        pytest.skip("the models of SPICE are installed")
    assert whole.notes() == ("no SPICE: the models of CoreNLP 3.6.0 are not installed",)
    assert "SPICE" not in [summary.metric for summary in whole.summaries()]
    (lacking,) = Captions(["spice"]).lacks()
    assert isinstance(lacking, ConfigError) and "no SPICE" in lacking.what
    with pytest.raises(ConfigError, match=r"'metrics.0' .*did you mean 'cider'"):
        build("scorer", "captions", {"metrics": ["cidr"]})
    with pytest.raises(ConfigError, match="a list of at least 1"):
        build("scorer", "captions", {"metrics": []})


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Java and package are looked for anew."""
    yield monkeypatch
    programs.java.cache_clear()
    programs.package.cache_clear()


def test_without_java_or_the_package_there_is_one_clear_message(forgetful: Any) -> None:
    programs.java.cache_clear()
    forgetful.setenv("PATH", "")
    (java,) = Captions().lacks()
    assert isinstance(java, ConfigError) and "need Java, which is not installed" in java.what
    assert "PATH" in str(java)
    programs.package.cache_clear()
    forgetful.setattr(programs, "find_spec", lambda name: None)
    package, java = Captions().lacks()
    assert isinstance(package, MissingExtra)
    assert "pip install 'emu2eval[captions]'" in str(package)


@needs_java
def test_a_java_that_does_not_start_is_named(forgetful: Any, tmp_path: Path) -> None:
    programs.java.cache_clear()
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    forgetful.setenv("PATH", str(tmp_path))
    (lacking,) = Captions().lacks()
    assert "does not start" in lacking.what


def test_samples_without_references_are_unscored_and_need_no_java(forgetful: Any) -> None:
    scorer = Captions(QUICK)
    forgetful.setattr(scorer, "lacks", list)
    programs.java.cache_clear()
    forgetful.setenv("PATH", "")
    hidden = answer("x", "a dog", [])
    scorer.prepare([hidden])
    assert scorer.score(*hidden).value is None
