"""The sizes of an Emu2 model: vision encoder, decoder, and how many positions an image takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from emu2eval.errors import ConfigError, UnknownName, shown

Variant = Literal["base", "chat", "gen"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def told_variant(name: str) -> Variant:
    """The variant that a checkpoint's name tells.

    >>> told_variant("BAAI/Emu2-Chat")
    'chat'
    """
    return next((variant for variant in VARIANTS if f"-{variant}" in name.lower()), "base")


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """EVA-02-CLIP-E/14's sizes as released with Emu2. image_size, patch_size: pixels a side."""

    image_size: int = 448
    patch_size: int = 14
    width: int = 1792
    layers: int = 64
    head_width: int = 112
    mlp_ratio: float = 8.571428571428571  # 15360 / 1792
    layer_norm_eps: float = 1e-6

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return int(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along one side of an image."""
        return self.image_size // self.patch_size

    def check(self, where: str | Path | None = None) -> None:
        """Raises ConfigError for sizes that do not divide each other."""
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"vision.image_size {self.image_size} is not a multiple of patch_size "
                f"{self.patch_size}",
                where=where,
            )
        if self.width % self.head_width:
            raise ConfigError(
                f"vision.width {self.width} is not a multiple of head_width {self.head_width}",
                where=where,
            )


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A LLaMA decoder's sizes; the defaults are LLaMA-33B's with Emu2's special tokens added."""

    hidden_size: int = 6656
    intermediate_size: int = 17920
    num_attention_heads: int = 52
    num_hidden_layers: int = 60
    vocab_size: int = 32272
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6

    def check(self, where: str | Path | None = None) -> None:
        """Raises ConfigError for sizes that do not divide each other."""
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ConfigError(
                f"decoder.hidden_size {self.hidden_size} does not give each of "
                f"{self.num_attention_heads} heads an even width",
                where=where,
            )


@dataclass(frozen=True, slots=True)
class Emu2Config:
    """vision, decoder: sizes; n_query, v_query: positions that an image and a video frame take."""

    vision: VisionConfig = VisionConfig()
    decoder: DecoderConfig = DecoderConfig()
    variant: Variant = "base"
    n_query: int = 64
    v_query: int = 64

    @classmethod
    def official(cls, variant: Variant) -> Emu2Config:
        """The released models: 64 positions an image, 256 in Emu2-Chat (arXiv 2312.13286)."""
        if variant not in VARIANTS:
            raise UnknownName("variant", variant, VARIANTS, of="Emu2")
        if variant == "chat":
            # Two more rows than the others: [USER] and [ASSISTANT].
            return cls(decoder=DecoderConfig(vocab_size=32274), variant="chat", n_query=256)
        return cls(variant=variant)

    def check(self, where: str | Path | None = None) -> None:
        """Raises ConfigError for sizes that cannot belong together."""
        self.vision.check(where)
        self.decoder.check(where)
        if self.variant not in VARIANTS:
            raise UnknownName("variant", str(self.variant), VARIANTS, where=where, of="Emu2")
        for name, tokens in (("n_query", self.n_query), ("v_query", self.v_query)):
            side = round(tokens**0.5)
            if tokens < 1 or side * side != tokens or self.vision.grid % side:
                raise ConfigError(
                    f"{name} {tokens} is not a square grid that divides the "
                    f"{self.vision.grid} x {self.vision.grid} patches of an image",
                    where=where,
                )

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: the contents of a folder's `config.json`."""
        return {"model": "emu2", **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str | Path | None = None) -> Emu2Config:
        """From a folder's `config.json`; every key is needed. Raises ConfigError or UnknownName."""
        if not isinstance(data, Mapping) or data.get("model") != "emu2":
            raise ConfigError(
                "not an Emu2 configuration",
                where=where,
                hint='its config.json must begin with "model": "emu2"; the published folders '
                "are recognised by their files",
            )
        rest = {key: value for key, value in data.items() if key != "model"}
        config = _read(
            cls,
            {
                **rest,
                "vision": _read(VisionConfig, rest.get("vision"), "vision", where),
                "decoder": _read(DecoderConfig, rest.get("decoder"), "decoder", where),
            },
            "",
            where,
        )
        config.check(where)
        return config


_T = TypeVar("_T")


def _read(kind: type[_T], data: object, name: str, where: str | Path | None) -> _T:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{name!r} is missing or contains no sizes", where=where)
    prefix = f"{name}." if name else ""
    known = {field.name: str(field.type) for field in fields(cast(Any, kind))}
    for key, value in data.items():
        if key not in known:
            raise UnknownName("key", f"{prefix}{key}", [prefix + k for k in known], where=where)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        fits = number and (known[key] != "int" or isinstance(value, int))
        if known[key] in ("int", "float") and not fits:
            raise ConfigError(
                f"{prefix}{key} is {shown(value)}, not a positive number"
                + (" (an integer)" if known[key] == "int" else ""),
                where=where,
            )
    missing = [prefix + key for key in known if key not in data]
    if missing:
        raise ConfigError(f"missing keys: {', '.join(missing)}", where=where)
    return kind(**data)
