"""What a task asks for, by kind: `output: {kind: …, …}` in a task's file, with the keys of that kind.

A kind of somebody else's goes by `module:attr`, or by an entry point of the group `emu2eval.outputs`: a
subclass of OutputSpec, or the subclass of Output itself, whose fields are then the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec

from emu2eval import registry
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Count, Variants
from emu2eval.types import ChoiceOutput, ImageOutput, Output, TextOutput


class OutputSpec(Variants):
    """Subclass to declare the keys of a kind of output; `build` makes the request's output from them.

    makes: the class of that output.
    """

    makes: ClassVar[type[Output]]
    named: str = msgspec.field(name="kind", default="text")

    @classmethod
    def variant(cls, named: str | None) -> type[OutputSpec]:
        found: type[OutputSpec | Output] = registry.find("output", named or "text")
        if issubclass(found, OutputSpec):
            return found
        output: Any = found
        return _of_fields(output)

    @property
    def kind(self) -> str:
        """The kind of the output that is built, as adapters and scorers know it."""
        return self.makes.kind

    @property
    def takes(self) -> int:
        """Answers to each prompt."""
        return 1

    @property
    def random(self) -> bool:
        """Whether each take and trial has noise of its own."""
        return False

    @property
    def seed(self) -> int:
        """Of the noise."""
        return 0

    @property
    def choices(self) -> tuple[str, ...]:
        """The closed set of answers that all queries share; empty = each sample has its own."""
        return ()

    def build(self, choices: Sequence[str], noise: int = 0) -> Output:
        """The request's output. choices: the sample's own, used where the task names none.

        noise: the seed of one take's noise, made of `seed` and the request's identity.
        """
        raise NotImplementedError


class TextSpec(OutputSpec):
    """Free text, see `TextOutput`.

    max_new_tokens, min_new_tokens: maximum and minimum length of an answer. beams: of the search;
    length_penalty: its exponent; null = the model's own.
    """

    makes: ClassVar[type[Output]] = TextOutput
    max_new_tokens: Count = 10
    min_new_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    beams: Count | None = None
    length_penalty: float | None = None
    stop: tuple[str, ...] = ()

    def build(self, choices: Sequence[str], noise: int = 0) -> TextOutput:
        return TextOutput(
            self.max_new_tokens, self.min_new_tokens, self.beams, self.length_penalty, self.stop
        )


class ChoiceSpec(OutputSpec):
    """The most likely of several choices, see `ChoiceOutput`.

    choices: of all queries; empty = each sample has its own. per_token: use the mean over tokens, not
    their sum.
    """

    makes: ClassVar[type[Output]] = ChoiceOutput
    choices: tuple[str, ...] = ()
    per_token: bool = False

    def build(self, choices: Sequence[str], noise: int = 0) -> ChoiceOutput:
        """Raises ConfigError if there is nothing to choose from."""
        wanted = self.choices or tuple(choices)
        if not wanted:
            raise ConfigError(
                "no choices to rank",
                hint="list them under output.choices, or name their column in the data options",
            )
        return ChoiceOutput(wanted, self.per_token)


class ImageSpec(OutputSpec):
    """Images, see `ImageOutput`. images: the number per prompt, each from its own noise.

    seed: of the noise; each take and trial has its own noise, derived from it.
    """

    makes: ClassVar[type[Output]] = ImageOutput
    seed: int = 0
    width: Count | None = None
    height: Count | None = None
    steps: Count | None = None
    guidance: float | None = None
    images: Count = 1

    @property
    def takes(self) -> int:
        return self.images

    @property
    def random(self) -> bool:
        return True

    def build(self, choices: Sequence[str], noise: int = 0) -> ImageOutput:
        return ImageOutput(noise, self.width, self.height, self.steps, self.guidance)


class _Fields(OutputSpec):
    """The keys of an output whose class is all there is: `seed` takes the noise, `choices` the sample's."""

    @property
    def random(self) -> bool:
        return "seed" in self.__struct_fields__

    def build(self, choices: Sequence[str], noise: int = 0) -> Output:
        values = msgspec.structs.asdict(self)
        del values["named"]
        given = {"seed": noise, "choices": self.choices or tuple(choices)}
        return self.makes(**{key: given.get(key, value) for key, value in values.items()})


@cache
def _of_fields(output: Any) -> type[OutputSpec]:
    """An output's dataclass as settings."""
    kinds = get_type_hints(output, include_extras=True)
    made: dict[str, Any] = {"__module__": __name__, "__annotations__": {}, "makes": output}
    for each in fields(output):
        made["__annotations__"][each.name] = kinds[each.name]
        if each.default is not MISSING:
            made[each.name] = each.default
        elif each.default_factory is not MISSING:
            made[each.name] = msgspec.field(default_factory=each.default_factory)
    build: Any = type(OutputSpec)
    spec: type[OutputSpec] = build(output.__name__, (_Fields,), made)
    return spec


def merged_output(*layers: Any) -> dict[str, Any]:
    """The keys of `output` from several places, the later ones over the earlier.

    The keys of one kind mean nothing to another: a place that names another kind starts anew.

    >>> merged_output({"stop": ["\\n"]}, {"kind": "choice"})
    {'kind': 'choice'}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.get("kind", merged.get("kind", "text")) != merged.get("kind", "text"):
            merged = {}
        merged = {**merged, **layer}
    return merged
