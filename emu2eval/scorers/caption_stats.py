"""Corpus-level caption metrics: numbers of a whole set of images, not means over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def bleu_statistics(caption: str, references: Sequence[str]) -> tuple[float, ...]:
    """Length, closest reference's length, and for n = 1..4 the n-grams and the right ones among them."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    lengths, counts = cook_refs(references)
    cooked = cook_test(caption, (lengths, counts))
    closest = min((abs(length - cooked["testlen"]), length) for length in lengths)[1]
    return (cooked["testlen"], closest, *cooked["guess"], *cooked["correct"])


def bleu(statistics: ArrayLike, n: int) -> Array:
    """BLEU-n, 0..1, of summed statistics (…, 10), as pycocoevalcap's: with its two small constants, so
    that a short text without any right 4-gram gets about 1e-4 and not 0."""
    tiny, small = 1e-15, 1e-9
    s = np.asarray(statistics, dtype=np.float64)
    length, closest = s[..., 0], s[..., 1]
    product = np.ones_like(length)
    for k in range(n):
        product = product * ((s[..., 6 + k] + tiny) / (s[..., 2 + k] + small))
    ratio = (length + tiny) / (closest + small)
    value: Array = product ** (1.0 / n) * np.where(
        ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1
    )
    return value


# Its parameters for ranking in English, and the weights of its four ways to match: exact, stem, synonym,
# paraphrase (Denkowski and Lavie, 2014).
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = (1.0, 0.6, 0.8, 0.6)


def meteor_sums(statistics: Sequence[float]) -> tuple[float, ...]:
    """METEOR's statistics of one caption as it adds them up: a perfect match counts no chunk."""
    perfect = statistics[20] == 1 and tuple(statistics[21:23]) == tuple(statistics[0:2])
    return (*statistics[:20], 0.0 if perfect else statistics[20], *statistics[21:23])


def meteor(statistics: ArrayLike) -> Array:
    """METEOR 1.5, 0..1, of summed statistics (…, 23), equal to the program's own aggregate.

    They are: lengths of caption and reference, their function words; for each way to match, the content
    words matched on either side, then the function words; chunks, and the words matched on either side.
    """
    s = np.asarray(statistics, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = []
        for side in (0, 1):
            matched = np.zeros_like(s[..., 0])
            for way, weight in enumerate(_WEIGHTS):
                content, function = s[..., 4 + 4 * way + side], s[..., 6 + 4 * way + side]
                matched = matched + weight * (content * _DELTA + function * (1 - _DELTA))
            length, words = s[..., side], s[..., 2 + side]
            sides.append(matched / (_DELTA * (length - words) + (1 - _DELTA) * words))
        precision, recall = sides
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragments = s[..., 20] / ((s[..., 21] + s[..., 22]) / 2)
        value = mean * (1 - _GAMMA * fragments**_BETA)
    found: Array = np.where((precision > 0) & (recall > 0), value, 0.0)
    return found


def cider(
    captions: Sequence[tuple[str, str]], references: Mapping[str, Sequence[str]]
) -> list[float]:
    """CIDEr-D, 0..10, of each (image, caption) among all of these; texts in tokens.

    Each image counts once in the document frequencies, however many captions of it are scored. One
    image alone has frequencies that say nothing: 0.
    """
    from pycocoevalcap.cider.cider import Cider

    images = {image: list(references[image]) for image, _ in captions}
    values = [0.0] * len(captions)
    waiting: dict[str, list[int]] = {}
    for place, (image, _) in enumerate(captions):
        waiting.setdefault(image, []).append(place)
    for turn in range(max(map(len, waiting.values()), default=0)):
        # One caption of every image, or the official code would count fewer images.
        places = {p: listed[turn] if turn < len(listed) else None for p, listed in waiting.items()}
        given = {p: [captions[at][1] if at is not None else ""] for p, at in places.items()}
        _, found = Cider().compute_score(images, given)
        for at, value in zip(places.values(), found, strict=True):
            if at is not None:
                values[at] = float(value)
    return values
