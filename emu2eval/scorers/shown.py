"""VL-ICL's drawings (Zong et al., 2025; github.com/ys-zong/VL-ICL, evals/eval.py): does an image show it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from emu2eval.scorers.base import ScoringError, Summary, drawn, texts, unreferenced
from emu2eval.scorers.judged import JudgedScorer, Shown, Wording
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Response, Sample, Score, TextOutput

Concepts = Annotated[Sequence[str], Meta(min_length=1)]


class ShownConcepts(JudgedScorer):
    """1 if a judge says that the image shows what the references name, each asked about separately.

    concepts: what the references are, in their order, such as latent and non_latent; of several each is a
    number of its own beside the one of all. The official judge is LLaVA v1.6 7B, five tokens.
    wording: a YAML file in place of our own words, see `Wording`.
    """

    metric = "shown"
    outputs = frozenset({"image"})
    reply: ClassVar[TextOutput] = TextOutput(max_new_tokens=5)

    def __init__(self, concepts: Concepts = ("concept",), wording: str | None = None):
        self.names = tuple(concepts)
        self.wording = Wording.read("vl_icl", wording, ("image", "concept"))

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, Shown]:
        references = texts(sample.references, sample.id)
        if references and len(references) != len(self.names):
            raise ScoringError(
                f"sample {sample.id!r} has {len(references)} concepts, not {len(self.names)}"
            )
        concept = references[self.names.index(name)] if references else "nothing"
        return {"image": drawn(response), "concept": concept}

    def read(self, reply: str) -> bool:
        """Whether it holds a yes; officially anything else is a no.

        >>> scorer = ShownConcepts()
        >>> scorer.read(" Yes."), scorer.read("It does not")
        (True, False)
        """
        return "yes" in reply.lower()

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        if not sample.references:
            return unreferenced()
        found = {name: float(said[name]) for name in self.names}
        seen = [name for name, value in found.items() if value]
        return Score(min(found.values()), " and ".join(seen) or "none", found)

    def summaries(self) -> tuple[Summary, ...]:
        whole = Summary(self.metric, ClusteredMean(self.scale), self.variant)
        if len(self.names) == 1:
            return (whole,)
        return whole, *(
            Summary(name, ClusteredMean(self.scale, of=name), self.variant) for name in self.names
        )
