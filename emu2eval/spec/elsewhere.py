"""What lm-eval, lmms-eval and VLMEvalKit call the tasks that are here, and which of theirs are not.

Names as of EleutherAI/lm-evaluation-harness 4e7e0d4, EvolvingLMMs-Lab/lmms-eval 75571cf (`lmms_eval/tasks`)
and open-compass/VLMEvalKit e8e78f0 (`vlmeval/dataset`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

NAMES: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "vqav2_val": ("vqav2", "val"),
        "vqav2_test": ("vqav2", "test"),
        "ok_vqa": ("okvqa", None),
        "ok_vqa_val2014": ("okvqa", "val"),
        "vizwiz_vqa": ("vizwiz", None),
        "vizwiz_vqa_val": ("vizwiz", "val"),
        "vizwiz_vqa_test": ("vizwiz", "test"),
        "textvqa_val": ("textvqa", "val"),
        "textvqa_test": ("textvqa", "test"),
        "gqa_testdev_balanced": ("gqa", "testdev"),
        "seedbench": ("seed_bench", None),
        "seedbench_img": ("seed_bench", "image"),
        "mmmu_val": ("mmmu", "val"),
        "mmmu_dev_val": ("mmmu", "val"),
        "mmmu_test": ("mmmu", "test"),
        "scienceqa_test": ("scienceqa_img", "test"),
        "scienceqa_val": ("scienceqa_img", "val"),
        "mmbench_en": ("mmbench", None),
        "mmbench_en_dev": ("mmbench", "dev"),
        "mmbench_en_test": ("mmbench", "test"),
        "mmbench_dev_en": ("mmbench", "dev"),
        "mmbench_test_en": ("mmbench", "test"),
        "pope_adv": ("pope", "adversarial"),
        "pope_pop": ("pope", "popular"),
        "pope_random": ("pope", "random"),
        "mmvet": ("mm_vet", None),
        "coco_cap": ("coco_caption", None),
        "coco_val": ("coco_caption", None),
        "coco_karpathy_test": ("coco_caption", "test"),
        "coco_karpathy_val": ("coco_caption", "val"),
        "nocaps_val": ("nocaps", "val"),
        "flickr30k_test": ("flickr30k", "test"),
        "refcoco_bbox_rec": ("refcoco", None),
        "refcoco_bbox_rec_val": ("refcoco", "val"),
        "refcoco_bbox_rec_testa": ("refcoco", "testA"),
        "refcoco_bbox_rec_testb": ("refcoco", "testB"),
        "refcoco+_bbox_rec": ("refcoco_plus", None),
        "refcoco+_bbox_rec_val": ("refcoco_plus", "val"),
        "refcoco+_bbox_rec_testa": ("refcoco_plus", "testA"),
        "refcoco+_bbox_rec_testb": ("refcoco_plus", "testB"),
        "refcocog_bbox_rec": ("refcocog", None),
        "refcocog_bbox_rec_val": ("refcocog", "val"),
        "refcocog_bbox_rec_test": ("refcocog", "test"),
        "refcoco_val": ("refcoco", "val"),
        "refcoco_testa": ("refcoco", "testA"),
        "refcoco_testb": ("refcoco", "testB"),
        "refcoco+": ("refcoco_plus", None),
        "refcoco+_val": ("refcoco_plus", "val"),
        "refcoco+_testa": ("refcoco_plus", "testA"),
        "refcoco+_testb": ("refcoco_plus", "testB"),
        "refcocog_val": ("refcocog", "val"),
        "refcocog_test": ("refcocog", "test"),
    }
)
"""Name elsewhere, in lower case -> our task, and the split that it means; None = the task's own."""

_ABSENT = frozenset(
    """mme mmstar ai2d chartqa docvqa infovqa mathvista mathverse mathvision hallusionbench hallusion_bench
    ocrbench ocrvqa stvqa textcaps realworldqa blink muirbench mmmu_pro mmvp videomme mvbench egoschema
    activitynetqa nextqa llava_bench llava_in_the_wild visdial iconqa screenspot cmmmu mmt mmbench_cn
    mmbench_cn_dev mmbench_dev_cn vstar_bench vstar seedbench_2 seedbench2 a-okvqa""".split()
)
"""Benchmarks of theirs that people ask for, and that are none of ours."""


def known_elsewhere(name: str) -> tuple[str, str | None] | None:
    """Our task and split for a name of theirs; None where there is none.

    >>> known_elsewhere("MMBench_DEV_EN"), known_elsewhere("okvqa")
    (('mmbench', 'dev'), None)
    """
    return NAMES.get(name.lower()) or NAMES.get(_plain(name))


def said_elsewhere(name: str) -> str | None:
    """What to type for a name of theirs; None where it is unknown there, too."""
    found = known_elsewhere(name)
    if found is not None:
        task, split = found
        return f"for {name}, use --task {task}" + (f" --split {split}" if split else "")
    stem = re.split(r"_(?:test|val|dev|lite|all)", name.lower())[0]
    if {name.lower(), stem, stem.replace("-", "_")} & _ABSENT:
        return (
            f"{name} is available in other harnesses but not in emu2eval; for the available tasks: "
            "emu2eval ls "
            "tasks; for your own task, give the path of its .yaml file"
        )
    return None


def _plain(name: str) -> str:
    """Without what lmms-eval calls a smaller or another edition of the same."""
    return re.sub(r"_(?:lite|reasoning|static)$", "", name.lower())
