"""find(kind, name): built in, from an entry point, or `module:attr`; imported on first use.

Built-ins take the same path as plug-ins: a name for a `module:attr`. A package adds its own under the
entry-point groups `emu2eval.adapters`, `.scorers`, `.readers`, `.choosers`, `.encoders`, `.cleaners` and
`.submissions`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from emu2eval.errors import ConfigError, MissingExtra, UnknownName

BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "adapter": {
        "copy": "emu2eval.adapters.baselines:Copy",
        "diffusers": "emu2eval.adapters.diffusion.adapter:DiffusionAdapter",
        "emu2": "emu2eval.adapters.emu2.adapter:Emu2Adapter",
        "huggingface": "emu2eval.adapters.huggingface.adapter:HuggingFaceAdapter",
        "most-common": "emu2eval.adapters.baselines:MostCommon",
        "nearest": "emu2eval.adapters.baselines:Nearest",
        "openai": "emu2eval.adapters.openai.adapter:OpenAIAdapter",
        "scripted": "emu2eval.adapters.scripted:Scripted",
    },
    "chooser": {
        "balanced": "emu2eval.fewshot.choosers:Balanced",
        "episode": "emu2eval.fewshot.episode:Episode",
        "fixed": "emu2eval.fewshot.choosers:Fixed",
        "listed": "emu2eval.fewshot.listed:Listed",
        "random": "emu2eval.fewshot.choosers:Random",
        "rices": "emu2eval.fewshot.rices:Rices",
        "vl-icl": "emu2eval.fewshot.vl_icl:VLICL",
    },
    "cleaner": {
        "bare": "emu2eval.scorers.clean:bare",
        "first_line": "emu2eval.scorers.clean:first_line",
        "first_number": "emu2eval.scorers.clean:first_number",
        "first_sentence": "emu2eval.scorers.clean:first_sentence",
        "lower": "emu2eval.scorers.clean:lower",
        "no_double_quotes": "emu2eval.scorers.clean:no_double_quotes",
        "no_final_period": "emu2eval.scorers.clean:no_final_period",
        "openflamingo_vqa": "emu2eval.scorers.clean:openflamingo_vqa",
        "short_answer": "emu2eval.scorers.clean:short_answer",
        "strip": "emu2eval.scorers.clean:strip",
        "vl_icl": "emu2eval.scorers.clean:vl_icl",
        "yes_or_no": "emu2eval.scorers.clean:yes_or_no",
    },
    "encoder": {
        "thumbnail": "emu2eval.encoders.base:Thumbnail",
    },
    "reader": {
        "captions": "emu2eval.data.captions:read",
        "coco-autoencode": "emu2eval.data.coco_images:read_images",
        "coco-captions": "emu2eval.data.coco_images:read",
        "dreambench": "emu2eval.data.dreambench:read",
        "cobsat": "emu2eval.data.cobsat:read",
        "dreambench-plus": "emu2eval.data.dreambench_plus:read",
        "easy-vqa": "emu2eval.data.easy_vqa:read",
        "gqa": "emu2eval.data.gqa:read",
        "gqa-hub": "emu2eval.data.gqa_hub:read",
        "hateful-memes": "emu2eval.data.hateful_memes:read",
        "mmbench": "emu2eval.data.mmbench:read",
        "mmmu": "emu2eval.data.mmmu:read",
        "parquet": "emu2eval.data.parquet:read",
        "pope": "emu2eval.data.pope:read",
        "refcoco": "emu2eval.data.refcoco:read",
        "scienceqa": "emu2eval.data.scienceqa:read",
        "seed-bench": "emu2eval.data.seed_bench:read",
        "mm_vet": "emu2eval.data.mm_vet:read",
        "shapes-autoencode": "emu2eval.data.shapes_draw:read_images",
        "shapes-binding": "emu2eval.data.shapes_binding:read",
        "shapes-draw": "emu2eval.data.shapes_draw:read",
        "shapes-draw-names": "emu2eval.data.shapes_draw:read_names",
        "shapes-operator": "emu2eval.data.shapes_binding:read_operator",
        "table": "emu2eval.data.table:read",
        "textvqa": "emu2eval.data.textvqa:read",
        "video-qa": "emu2eval.data.video_qa:read",
        "vizwiz": "emu2eval.data.vizwiz:read",
        "vl-icl": "emu2eval.data.vl_icl:read",
        "touchstone": "emu2eval.data.touchstone:read",
        "vqa": "emu2eval.data.vqa:read",
    },
    "scorer": {
        "captions": "emu2eval.scorers.captions:Captions",
        "choice": "emu2eval.scorers.choice:ChoiceAccuracy",
        "cobsat": "emu2eval.scorers.cobsat:CoBSAT",
        "drawing": "emu2eval.scorers.drawing:Drawing",
        "dreambench_plus": "emu2eval.scorers.dreambench_plus:DreamBenchPlus",
        "exact_match": "emu2eval.scorers.exact:ExactMatch",
        "gqa": "emu2eval.scorers.gqa:GQA",
        "grounding": "emu2eval.scorers.grounding:Grounding",
        "roc_auc": "emu2eval.scorers.roc_auc:RocAucScorer",
        "vizwiz": "emu2eval.scorers.vizwiz:VizWiz",
        "letter": "emu2eval.scorers.letters:LetterAccuracy",
        "mmmu": "emu2eval.scorers.mmmu:MMMUAccuracy",
        "mm_vet": "emu2eval.scorers.mm_vet:MMVet",
        "images": "emu2eval.scorers.images:Images",
        "shown": "emu2eval.scorers.shown:ShownConcepts",
        "touchstone": "emu2eval.scorers.touchstone:TouchStone",
        "vqa_accuracy": "emu2eval.scorers.vqa:VQAAccuracy",
        "yes_no": "emu2eval.scorers.yes_no:YesNo",
    },
    "submission": {
        "gqa": "emu2eval.exports.server_formats:GQA",
        "mmmu": "emu2eval.exports.server_formats:MMMU",
        "vizwiz": "emu2eval.exports.server_formats:VIZWIZ",
        "vqa": "emu2eval.exports.server_formats:VQA",
    },
}

_EXTRAS = {
    "torch": "hf",
    "transformers": "hf",
    "accelerate": "hf",
    "sentencepiece": "emu2",
    "diffusers": "emu2",
    "bitsandbytes": "quantize",
    "torchmetrics": "images",
    "pycocoevalcap": "captions",
    "httpx": "api",
    "ray": "ray",
    "datasets": "data",
    "pandas": "data",
    "av": "video",
    "pyarrow": "data",
}


def known(kind: str) -> dict[str, str]:
    """Every name of a kind with its `module:attr`: the built-ins, then the entry points."""
    from importlib.metadata import entry_points

    found = dict(BUILT_IN[kind])
    for point in entry_points(group=f"emu2eval.{kind}s"):
        found.setdefault(point.name, point.value)
    return dict(sorted(found.items()))


def find(kind: str, name: str, *, where: str | None = None) -> Any:
    """The object behind a name.

    Raises UnknownName with the nearest names, MissingExtra for a dependency that is not installed,
    ConfigError where `module:attr` cannot be imported.
    """
    target = BUILT_IN[kind].get(name)
    if target is None and ":" in name:
        target = name
    if target is None:
        target = known(kind).get(name)
    if target is None:
        hint = f"your own {kind} goes by module:attr, such as my_module:MyClass"
        raise UnknownName(kind, name, known(kind), where=where, hint=hint)
    return _import(kind, name, target, where)


def _import(kind: str, name: str, target: str, where: str | None) -> Any:
    module_name, _, attribute = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # A user's own module beside their task file is found like `python -m` would find it.
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _EXTRAS:
            raise MissingExtra(missing, _EXTRAS[missing], why=f"the {kind} {name!r}") from None
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {error}",
            where=where,
            hint="run from the folder that holds the module, or install its package",
        ) from None
    except (ImportError, SyntaxError) as error:
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {error}", where=where
        ) from error
    found = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            public = [n for n in vars(module) if not n.startswith("_")]
            raise UnknownName(f"attribute of {module_name}", attribute, public, where=where)
        found = getattr(found, step)
    return found


def build(kind: str, name: str, options: Mapping[str, Any], *, where: str | None = None) -> Any:
    """`find` and call it with the options of a YAML file.

    Raises UnknownName for an option that it does not take, ConfigError for one that it lacks.
    """
    factory = find(kind, name, where=where)
    if not callable(factory):
        raise ConfigError(f"the {kind} {name!r} is not a class or a function", where=where)
    check_options(f"{kind} {name}", factory, options, where=where)
    return factory(**options)


def check_options(
    what: str, factory: Any, options: Mapping[str, Any], *, where: str | None = None, given: int = 0
) -> None:
    """Raises UnknownName or ConfigError where `options` do not fit the factory's parameters.

    given: how many leading parameters the harness fills in itself.
    """
    parameters = list(inspect.signature(factory).parameters.values())[given:]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = [p.name for p in parameters]
        for option in options:
            if option not in names:
                raise UnknownName(f"option of {what}", option, names, where=where)
    for p in parameters:
        named = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if named and p.default is p.empty and p.name not in options:
            raise ConfigError(f"{what} needs the option {p.name!r}", where=where)
    hints = _hints(factory)
    for option, value in options.items():
        if option not in hints:
            continue
        try:
            msgspec.convert(value, hints[option])
        except msgspec.ValidationError as error:
            # It names the kinds and not the value, which may be a secret in the wrong place.
            raise ConfigError(f"the option {option!r} of {what}: {error}", where=where) from None
        except TypeError:
            pass  # of a kind that a file cannot hold


def _hints(factory: Any) -> dict[str, Any]:
    """The kind of each parameter, as far as it is known. Choices of names are left to their owner."""
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        found = get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}
    return {
        name: kind
        for name, kind in found.items()
        if not any(get_origin(part) is Literal for part in (kind, *get_args(kind)))
    }
