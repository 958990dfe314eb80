"""find(kind, name): built in, from an entry point, or `module:attr`; imported on first use.

Built-ins take the same path as plug-ins: a name for a `module:attr`. A package adds its own under the
entry-point groups `emu2eval.adapters`, `.scorers`, `.readers`, `.choosers`, `.encoders`, `.cleaners`,
`.outputs` and `.submissions`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import msgspec

from emu2eval.errors import ConfigError, UnknownName, lacking, of_part
from emu2eval.scripts import of_script
from emu2eval.spec.settings import Keys, Settings, Source, read
from emu2eval.trust import check_found, check_module

_Known = TypeVar("_Known")
Where = str | Callable[[Keys], str | None] | None

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
        "served": "emu2eval.adapters.served.adapter:ServedAdapter",
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
        "no_final_periods": "emu2eval.scorers.clean:no_final_periods",
        "openflamingo_vqa": "emu2eval.scorers.clean:openflamingo_vqa",
        "short_answer": "emu2eval.scorers.clean:short_answer",
        "strip": "emu2eval.scorers.clean:strip",
        "vl_icl": "emu2eval.scorers.clean:vl_icl",
        "yes_or_no": "emu2eval.scorers.clean:yes_or_no",
    },
    "encoder": {
        "thumbnail": "emu2eval.encoders.base:Thumbnail",
    },
    "output": {
        "choice": "emu2eval.spec.outputs:ChoiceSpec",
        "image": "emu2eval.spec.outputs:ImageSpec",
        "text": "emu2eval.spec.outputs:TextSpec",
    },
    "reader": {
        "captions": "emu2eval.data.captions:read",
        "coco-autoencode": "emu2eval.data.coco_images:read_images",
        "coco-captions": "emu2eval.data.coco_images:read",
        "datasets": "emu2eval.data.datasets_folder:read",
        "dreambench": "emu2eval.data.dreambench:read",
        "cobsat": "emu2eval.data.cobsat:read",
        "dreambench-plus": "emu2eval.data.dreambench_plus:read",
        "easy-vqa": "emu2eval.data.easy_vqa:read",
        "gqa": "emu2eval.data.gqa:read",
        "gqa-hub": "emu2eval.data.gqa_hub:read",
        "hateful-memes": "emu2eval.data.hateful_memes:read",
        "image-folder": "emu2eval.data.image_folder:read",
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
        "webdataset": "emu2eval.data.webdataset:read",
    },
    "scorer": {
        "captions": "emu2eval.scorers.captions:Captions",
        "choice": "emu2eval.scorers.choice:ChoiceAccuracy",
        "class_name": "emu2eval.scorers.class_name:ClassName",
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

_BASES = {
    "adapter": ("emu2eval.adapters.base:Adapter",),
    "chooser": ("emu2eval.fewshot.choosers:Chooser",),
    "encoder": ("emu2eval.encoders.base:Encoder",),
    "output": ("emu2eval.spec.outputs:OutputSpec", "emu2eval.types:Output"),
    "scorer": ("emu2eval.scorers.base:Scorer",),
}
"""What a class of a kind is a subclass of; a function that makes an instance will do, too."""

_FUNCTIONS = {"scorer": "emu2eval.scorers.function:factory"}
"""What makes a factory of the kind of a plain function that somebody named."""

_offered: dict[tuple[str, str], Any] = {}
"""Parts that this program handed over as objects, by kind and name."""


def offer(kind: str, part: Any) -> str:
    """The name by which an object of this program is found from now on; of equal names the last counts."""
    name = getattr(part, "__qualname__", None) or getattr(part, "__name__", type(part).__qualname__)
    whole = f"{getattr(part, '__module__', type(part).__module__)}:{name}"
    _offered[kind, whole] = part
    return whole


def known(kind: str) -> dict[str, str]:
    """Every name of a kind with its `module:attr`: the built-ins, then the entry points."""
    found = dict(_plugged_in(_folders()).get(kind, {}))
    return dict(sorted({**found, **BUILT_IN[kind]}.items()))


def _folders() -> tuple[tuple[str, int], ...]:
    """Where packages are found, and when one was last installed or removed there, in ns."""
    found = []
    for path in sys.path:
        with contextlib.suppress(OSError):
            found.append((path, Path(path).stat().st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=8)
def _plugged_in(folders: tuple[tuple[str, int], ...]) -> dict[str, dict[str, str]]:
    """Kind -> name -> `module:attr` of every entry point; of equal names the first on the path counts."""
    from importlib.metadata import entry_points

    points, found = entry_points(), {}
    for kind in BUILT_IN:
        named = found[kind] = dict[str, str]()
        for point in points.select(group=f"emu2eval.{kind}s"):
            named.setdefault(point.name, point.value)
    return found


def find(kind: str, name: str, *, where: str | None = None) -> Any:
    """The object behind a name.

    Raises UnknownName with the nearest names, MissingExtra for a dependency that is not installed,
    ConfigError where `module:attr` may not be named (see `trust`), cannot be imported, or is a class of
    another kind.
    """
    if (kind, name) in _offered:
        return _as_factory(kind, name, _offered[kind, name], where)
    target = BUILT_IN[kind].get(name)
    own = target is None and ":" in name
    if own and name.rpartition(":")[0].endswith(".py"):
        return _as_factory(kind, name, of_script(kind, name, where), where)
    if own:
        target = name
        check_module(kind, name, name.partition(":")[0], where)
    if target is None:
        target = known(kind).get(name)
    if target is None:
        hint = f"for your own {kind}, give module:attr, such as my_module:MyClass"
        if name.endswith(".py"):
            hint = f"use {name}:NAME, where NAME is defined in the file"
        raise UnknownName(kind, name, known(kind), where=where, hint=hint)
    found = _import(kind, name, target, where)
    if own and target not in BUILT_IN[kind].values():
        check_found(kind, name, sys.modules[target.partition(":")[0]], found, where)
    if target in BUILT_IN[kind].values():
        return found
    return _as_factory(kind, name, found, where)


def _as_factory(kind: str, name: str, found: Any, where: str | None) -> Any:
    """What somebody named, as what makes the part. Raises ConfigError for a class of another kind."""
    if inspect.isclass(found) and kind in _BASES:
        bases = _bases(kind)
        if not issubclass(found, bases):
            names = " or ".join(f"emu2eval.{base.__name__}" for base in bases)
            raise ConfigError(
                f"the {kind} {name!r} is a class but not a subclass of {names}", where=where
            )
    elif kind in _FUNCTIONS and callable(found) and not inspect.isclass(found):
        try:
            return _attribute(_FUNCTIONS[kind])(found)
        except ConfigError as error:
            error.where = error.where or where
            raise
    return found


def _attribute(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _bases(kind: str) -> tuple[type, ...]:
    return tuple(map(_attribute, _BASES[kind]))


def _import(kind: str, name: str, target: str, where: str | None) -> Any:
    module_name, _, attribute = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # A user's own module beside their task file is found like `python -m` would find it.
        sys.path.append(here)
    with of_part(kind, name):
        module = _module(kind, name, module_name, where)
    found = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            public = [n for n in vars(module) if not n.startswith("_")]
            raise UnknownName("attribute", attribute, public, where=where, of=module_name)
        found = getattr(found, step)
        if isinstance(found, ModuleType):
            raise ConfigError(f"the {kind} {name!r} names the module {found.__name__}", where=where)
    return found


def _module(kind: str, name: str, module_name: str, where: str | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = lacking(error, f"the {kind} {name!r}")
        if missing is not None:
            raise missing from None
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {error}",
            where=where,
            hint="run from the folder that contains the module, or install its package",
        ) from None
    except (ImportError, SyntaxError) as error:
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {error}", where=where
        ) from error


def build(
    kind: str,
    name: str,
    options: Mapping[str, Any] | Settings | None = None,
    *,
    given: Sequence[Any] = (),
    where: str | None = None,
    at: Where = None,
) -> Any:
    """`find` and call it with what the harness gives, then the checked options; as `prepared`."""
    return prepared(kind, name, options, given=len(given), where=where, at=at)(*given)


def prepared(
    kind: str,
    name: str,
    options: Mapping[str, Any] | Settings | None = None,
    *,
    given: int = 0,
    where: str | None = None,
    at: Where = None,
) -> Callable[..., Any]:
    """What builds the part from the `given` leading arguments of the harness; the options are checked now.

    where: the place of the name, such as `file:line`; at: that of the options, or a function from the keys
    of one to its place; absent = as `where`.
    Raises UnknownName or ConfigError, Several where more than one option is wrong.
    """
    factory = find(kind, name, where=where)
    return bound(kind, name, factory, options, given=given, where=where, at=at)


def bound(
    kind: str,
    name: str,
    factory: Any,
    options: Mapping[str, Any] | Settings | None = None,
    *,
    given: int = 0,
    where: str | None = None,
    at: Where = None,
) -> Callable[..., Any]:
    """`prepared` of a factory that is at hand. name: for messages."""
    if not callable(factory):
        raise ConfigError(f"the {kind} {name!r} is not a class or a function", where=where)
    with of_part(kind, name):
        settings = check_options(f"{kind} {name}", factory, options, given=given, where=at or where)

    def make(*leading: Any) -> Any:
        with of_part(kind, name):
            if isinstance(settings, Settings):
                made = factory(*leading, settings)
            else:
                made = factory(*leading, **settings)
        if kind in _BASES and not isinstance(made, _bases(kind)):
            raise ConfigError(
                f"the {kind} {name!r} returns {type(made).__name__}, not a {kind}", where=where
            )
        return made

    return make


def check_options(
    what: str,
    factory: Callable[..., Any],
    options: Mapping[str, Any] | Settings | None = None,
    *,
    given: int = 0,
    where: Where = None,
) -> Settings | dict[str, Any]:
    """The options as the factory takes them: the Settings that it declares, else keyword arguments.

    what: such as "scorer images", for messages. given: how many leading parameters the harness fills in.
    Raises as `build`.
    """
    source = Source(what, _place(where))
    own = own_settings(factory, given)
    if own is not None:
        return read(own, options or {}, source)
    kind, open_ended = _from_signature(factory, given)
    values: Any = msgspec.structs.asdict(options) if isinstance(options, Settings) else options
    values = dict(values or {})
    known = kind.__struct_fields__
    more = {key: values.pop(key) for key in list(values) if open_ended and key not in known}
    checked = read(kind, values, source)
    return {key: getattr(checked, key) for key in values} | more


def _once(look: Callable[[Any, int], _Known]) -> Callable[[Any, int], _Known]:
    """Looks at the parameters of a factory once."""
    cached = lru_cache(maxsize=1024)(look)

    def known(factory: Any, given: int) -> _Known:
        try:
            return cached(factory, given)
        except TypeError:  # such as a part that cannot be hashed
            return look(factory, given)

    return known


def own_settings(factory: Callable[..., Any], given: int = 0) -> type[Settings] | None:
    """The subclass of Settings with which the first parameter that is not given is annotated."""
    return _own_settings(factory, given)


@_once
def _own_settings(factory: Any, given: int) -> type[Settings] | None:
    parameters = _parameters(factory)[given:]
    if not parameters:
        return None
    found = _hints(factory, parameters[:1]).get(parameters[0].name)
    return found if isinstance(found, type) and issubclass(found, Settings) else None


def declared(factory: Callable[..., Any], given: int = 0) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The options that a factory takes."""
    kind = own_settings(factory, given) or _from_signature(factory, given)[0]
    return msgspec.structs.fields(kind)


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(factory).parameters.values())
    except ValueError:  # written in C, and silent about what it takes
        return [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]


@_once
def _from_signature(factory: Any, given: int) -> tuple[type[Settings], bool]:
    """The factory's parameters as a struct, and whether it takes others, too (`**options`)."""
    parameters = _parameters(factory)[given:]
    hints = _hints(factory, parameters)
    fields: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
    for each in parameters:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            continue
        fields["__annotations__"][each.name] = hints.get(each.name, Any)
        if each.default is not each.empty:
            fields[each.name] = None  # the factory fills in its own defaults
    rest = any(each.kind is each.VAR_KEYWORD for each in parameters)
    build: Any = type(Settings)
    return build("Options", (Settings,), fields), rest


def _hints(factory: Any, parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """The types of parameters, as far as they are known here."""
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        pass  # such as a name that only type checkers import: the others are still known
    names = getattr(function, "__globals__", {})
    found = {}
    for each in parameters:
        if isinstance(each.annotation, str):
            with contextlib.suppress(Exception):
                found[each.name] = eval(each.annotation, names)
        elif each.annotation is not each.empty:
            found[each.name] = each.annotation
    return found


def _place(where: Where) -> Callable[[Keys], str | None]:
    return where if callable(where) else lambda keys: where
