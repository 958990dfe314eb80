"""What a task asks for, by kind: `output: {kind: …, …}` in a task's file, with the keys of that kind.

A kind of a plug-in goes by `module:attr`, or by an entry point of the group `emu2eval.outputs`: a subclass
of `Output`, or, for keys that are not its fields, of `OutputSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec

from emu2eval import registry
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Variants
from emu2eval.types import ChoiceOutput, ImageOutput, Output, TextOutput

Positive = Annotated[int, msgspec.Meta(ge=1)]

_specs: dict[type[Output], type[OutputSpec]] = {}
"""Of the outputs that declare no keys of their own."""


class OutputSpec(Variants):
    """Subclass to declare the keys of a kind of output; `build` makes the request's output of them.

    makes: the class of that output.
    """

    makes: ClassVar[type[Output]]
    named: str = msgspec.field(name="kind", default="text")

    @classmethod
    def variant(cls, named: str | None) -> type[OutputSpec]:
        """Of a name that stands for an `Output`, its fields are the keys."""
        found = registry.find("output", named or "text")
        if isinstance(found, type) and issubclass(found, OutputSpec):
            return found
        if isinstance(found, type) and issubclass(found, Output):
            if found not in _specs:
                _specs[found] = _spec_of(found)
            return _specs[found]
        raise ConfigError(
            f"the output {named!r} is no subclass of emu2eval.OutputSpec, nor of emu2eval.Output"
        )

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
    """Free text, as `TextOutput` says."""

    makes: ClassVar[type[Output]] = TextOutput
    max_new_tokens: Positive = 10
    min_new_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    beams: Positive | None = None
    length_penalty: float | None = None
    stop: tuple[str, ...] = ()

    def build(self, choices: Sequence[str], noise: int = 0) -> TextOutput:
        return TextOutput(
            self.max_new_tokens, self.min_new_tokens, self.beams, self.length_penalty, self.stop
        )


class ChoiceSpec(OutputSpec):
    """The likeliest of some choices, as `ChoiceOutput` says."""

    makes: ClassVar[type[Output]] = ChoiceOutput
    choices: tuple[str, ...] = ()
    per_token: bool = False

    def build(self, choices: Sequence[str], noise: int = 0) -> ChoiceOutput:
        """Raises ConfigError where there is nothing to choose from."""
        wanted = self.choices or tuple(choices)
        if not wanted:
            raise ConfigError(
                "there are no choices to rank",
                hint="list them under output.choices, or name their column in the data's options",
            )
        return ChoiceOutput(wanted, self.per_token)


class ImageSpec(OutputSpec):
    """Images, as `ImageOutput` says. images: so many a prompt, each from noise of its own."""

    makes: ClassVar[type[Output]] = ImageOutput
    seed: int = 0
    width: Positive | None = None
    height: Positive | None = None
    steps: Positive | None = None
    guidance: float | None = None
    images: Positive = 1

    @property
    def takes(self) -> int:
        return self.images

    @property
    def random(self) -> bool:
        return True

    def build(self, choices: Sequence[str], noise: int = 0) -> ImageOutput:
        return ImageOutput(noise, self.width, self.height, self.steps, self.guidance)


def _spec_of(output: type[Output]) -> type[OutputSpec]:
    """The keys of an output that declares none of its own: the fields of its dataclass, types and defaults.

    A field `seed` is filled in by the noise of each take.
    """
    declared = get_type_hints(output, include_extras=True)
    names = [field.name for field in dataclasses.fields(output)]
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(output):
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = msgspec.field(default_factory=field.default_factory)
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
    seeded = "seed" in names

    def build(self: OutputSpec, choices: Sequence[str], noise: int = 0) -> Output:
        given = {name: getattr(self, name) for name in names}
        return output(**given | ({"seed": noise} if seeded else {}))

    namespace = {
        "__module__": output.__module__,
        "__annotations__": {name: declared[name] for name in names},
        "makes": output,
        "build": build,
        "random": property(lambda self: seeded),
        **defaults,
    }
    made: Any = type(OutputSpec)
    spec: type[OutputSpec] = made(
        f"{output.__name__}Spec", (OutputSpec,), namespace, frozen=True, kw_only=True
    )
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
