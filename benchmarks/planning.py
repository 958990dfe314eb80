"""What planning a sample costs: demonstrations drawn, the prompt, its key, and its length, without an answer.

A sample's demonstrations are drawn from 2,000. Three ways take turns: all that is remembered of texts is
forgotten first, so that hardly a demonstration was seen before ("new"); all were ("seen"); and every prompt
is rendered and tokenized whole, with the places of its images written out, as the processors of transformers
do it. Images are plain, of eight sizes, and their digests known; models have no weights.

    python benchmarks/planning.py [--shots 0 4 8 16] [--samples 200] [--profile] [--quick]
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import transformers
from measuring import Turns, arguments, headline, in_turn, model_file, table, task_file
from PIL import Image as PILImage
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.form import TransformersForm
from emu2eval.adapters.huggingface.segments import REMEMBERED
from emu2eval.adapters.local.bounded import Bounded
from emu2eval.adapters.local.encoded import Shown
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.media import images
from emu2eval.types import Prompt

SIZES = (
    (640, 480),
    (480, 640),
    (640, 427),
    (427, 640),
    (500, 375),
    (375, 500),
    (640, 360),
    (612, 612),
)
WORDS = (
    "what colour is the big square on left side of red table near window and how many people are standing in "
    "front of it does he wear a hat or helmet which animal can be seen behind them"
).split()
QWEN = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}"
    "{% set image_count.value = image_count.value + 1 %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
hf: Any = transformers


def tokenizer(special: list[str]) -> Any:
    """A byte-level BPE, trained here."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<eos>", *special],
        show_progress=False,
    )
    text = " ".join(WORDS) + " user assistant system You are a helpful assistant. User Assistant"
    core.train_from_iterator([text] * 8, trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


def qwen(folder: Path) -> None:
    """The processor of a Qwen2.5-VL with its template: some 400 places for an image of 640 x 480."""
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    words = tokenizer([*marks, "<|im_start|>", "<|im_end|>"])
    words.chat_template = QWEN
    ids = [words.convert_tokens_to_ids(mark) for mark in marks]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    hf.Qwen2_5_VLConfig(**dict(zip(names, ids, strict=True))).save_pretrained(folder)
    words.save_pretrained(folder)
    hf.Qwen2VLImageProcessorPil().save_pretrained(folder)
    spec = {"processor_class": "Qwen2_5_VLProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(spec))


def idefics3(folder: Path) -> None:
    """The processor of an Idefics3 with its template: images in tiles, 64 places each."""
    marks = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    words = tokenizer([*marks, *tiles, "<|im_start|>"])
    own = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": 728}, max_image_size={"longest_edge": 364}
    )
    processor = hf.Idefics3Processor(own, words, image_seq_len=64, chat_template=IDEFICS)
    image = words.convert_tokens_to_ids("<image>")
    text = {"model_type": "llama", "max_position_embeddings": 32768}
    hf.Idefics3Config(image_token_id=image, text_config=text).save_pretrained(folder)
    processor.save_pretrained(folder)


def draw(folder: Path, queries: int, pool: int) -> Path:
    """A task of plain images, each with a question of its own."""
    folder.mkdir()
    for split, count in (("test", queries), ("train", pool)):
        rows = []
        for i in range(count):
            image = PILImage.new("RGB", SIZES[i % len(SIZES)], (i % 256, i // 256, len(split)))
            image.save(folder / f"{split}{i}.png", compress_level=1)
            asked = " ".join(WORDS[(i * 7 + n * n * (i % 11)) % len(WORDS)] for n in range(9))
            row = {"id": f"{split}{i}", "image": f"{split}{i}.png", "question": f"{asked} {i}?"}
            rows.append(json.dumps({**row, "answer": WORDS[i % 17]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return task_file(folder, "questions")


def _of_processor(form: TransformersForm, prompt: Prompt) -> int:
    expansion, words = form.expansion, form.processor.tokenizer
    text, *pieces = form.text(prompt).split(expansion.placeholder)
    for image, piece in zip(prompt.images(), pieces, strict=True):
        text += expansion.text(*images.info(image).upright, "") + piece
    return len(words(expansion.finish(text))["input_ids"])


def _of_emu2(form: Any, prompt: Prompt) -> int:
    own = form.tokenizer
    own._encoded.cache_clear()
    names = {number: name for name, number in own._known.items()}
    text = ""
    for item in form.lay_out(prompt):
        if isinstance(item, Shown):
            text += tokens.BOI + tokens.IMAGE * item.tokens + tokens.EOI
        else:
            text += names[item] if isinstance(item, int) else item
    return len(own.encode(text))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 4, 8, 16])
    parser.add_argument("--profile", action="store_true", help="where the time goes at 8 shots")
    own = parser.parse_args()
    samples, pool, repeats = (40, 300, 1) if own.quick else (own.samples, 2000, 5)
    hf.logging.set_verbosity_error()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = str(draw(folder / "task", samples, pool))
        made = {"Qwen2.5-VL": qwen, "Idefics3": idefics3}
        files = {"Emu2": "emu2-nano"}
        for label, build in made.items():
            build(folder / label)
            save_file({}, folder / label / "model.safetensors")
            file = folder / f"{label}.json"
            files[label] = str(model_file(file, "huggingface", checkpoint=str(folder / label)))
        for label, model in files.items():
            for shots in own.shots:
                times = timed(task, model, shots, folder, repeats, own.profile)
                each = [1000 * times.median(way) / samples for way in ("new", "seen", "whole")]
                rows.append((label, shots, *each, times.ratio("whole", "seen")))
                if shots == 8 and label != "Emu2":
                    headline("planning", f"{label} at 8 shots", rows[-1][-1], wanted=6.0)
    table(("", "shots", "new, ms", "seen, ms", "whole, ms", "whole / seen"), rows)


def timed(task: str, model: str, shots: int, folder: Path, repeats: int, profiled: bool) -> Turns:
    """CPU seconds of each way over all queries."""
    changes = ["model.settings.max_positions=1000000"]
    setting = RunOptions.of(shots=shots, changes=changes, out=folder / "runs")
    ((plan,),) = plans([task], [model], setting)
    adapter: Any = plan.adapter
    # What is done once for all samples, and the digests of all images.
    for source in (plan.questions.samples, plan.prompts.pool or ()):
        for sample in source:
            for image in sample.images:
                images.info(image)  # type: ignore[arg-type]
    for first in islice(plan, 10):
        plan.check(first)
    form = adapter.opened.form

    def seen() -> None:
        adapter._laid_out.clear()
        for planned in plan:
            plan.check(planned)

    def new() -> None:
        if isinstance(adapter, HuggingFaceAdapter):
            form._segments._known = Bounded(REMEMBERED)
        else:
            form.tokenizer._encoded.cache_clear()
        seen()

    def whole() -> None:
        length = _of_processor if isinstance(adapter, HuggingFaceAdapter) else _of_emu2
        for planned in plan:
            length(form, planned.request.prompt)

    if profiled and shots == 8:
        profile = cProfile.Profile()
        profile.runcall(new)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    return in_turn({"whole": whole, "new": new, "seen": seen}, repeats)


if __name__ == "__main__":
    main()
