"""A split in memory: a part of a sample is that of the whole one."""

from __future__ import annotations

from emu2eval.data.samples import Samples
from emu2eval.types import Image, Sample


def test_references_alone_are_those_of_the_whole_sample() -> None:
    drawn = Image("/data/a.png")
    given = [
        Sample("a", references=("red", "dark red"), fields={"question": "which?"}, answer="red"),
        Sample("b", references=(drawn, "a caption"), images=(drawn,), numbers=(3,)),
        Sample("c", choices=("x", "y")),
    ]
    samples = Samples(given, where="test")
    assert [samples.references(n) for n in range(3)] == [each.references for each in given]
    assert [samples[n].references for n in range(3)] == [each.references for each in given]
