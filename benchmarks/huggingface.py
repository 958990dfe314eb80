"""What the harness gains over the plain loop on a small Idefics3, and what it costs around `generate`.

The plain loop is what the documentation of transformers shows: for each sample the template, the processor
with all its images, `generate`, one at a time. The harness runs the same requests through the engine, batch
8, with everything that a run stores and scores. Random weights; both give the same answers. Rates are samples
by second of CPU time; "around" is what a sample costs outside of reading its prompt and `generate`. The two
are timed in turn, and each figure is the median of its repeats. Every run begins anew, with the images and
the beginning that its prompts share, which weighs less the more samples there are.

    python benchmarks/huggingface.py [--samples 32] [--shots 0 4 8 16] [--repeats 3] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from PIL import Image as PILImage
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from emu2eval import evaluate
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.local.inference import Inference
from emu2eval.engine import evaluation
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.media.images import load
from emu2eval.types import Image, Prompt, TextOutput, Turn

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BATCH = 8
POOL = 64
hf: Any = transformers


def build(folder: Path) -> None:
    """A small Idefics3 with its processor: 16 positions for an image of 64 x 64 pixels."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    words = ["<pad>", "<eos>", "<image>", "<fake_token_around_image>", "<end_of_utterance>"]
    words += ["<global-img>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=words,
        show_progress=False,
    )
    core.train_from_iterator(["what colour is square 0123456789? Answer: red green blue"], trainer)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>"
    )
    images = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 64}, do_image_splitting=False
    )
    processor = hf.Idefics3Processor(images, tokenizer, image_seq_len=16, chat_template=TEMPLATE)
    vision = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "image_size": 64,
        "num_attention_heads": 4, "patch_size": 8, "model_type": "idefics3_vision",
    }  # fmt: skip
    text = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "pad_token_id": 0,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096,
        "model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": 1, "bos_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2, image_token_id=image, pad_token_id=0
    )
    model = hf.Idefics3ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def draw(folder: Path, samples: int) -> Path:
    """A task of drawn squares: as many test rows, POOL to draw demonstrations from."""
    folder.mkdir()
    for split, count in (("test", samples), ("train", POOL)):
        rows = []
        for i in range(count):
            image = PILImage.new("RGB", (64, 64), (i * 7 % 256, i * 31 % 256, 90))
            image.putpixel((0, 0), (i % 256, i // 256, len(split)))
            image.save(folder / f"{split}{i}.png")
            question = f"what colour is square {i}?" + " please" * (i % 5)
            row = {"id": f"{split}{i}", "image": f"{split}{i}.png", "question": question}
            rows.append(json.dumps({**row, "answer": ("red", "green", "blue")[i % 3]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    path = folder / "task.json"
    splits = {"test": {"files": "test.jsonl"}, "train": {"files": "train.jsonl"}}
    spec = {
        "name": "squares", "title": "Squares", "split": "test", "protocol": "plain",
        "data": {"reader": "table", "root": ".", "splits": splits},
        "demonstrations": {"split": "train"}, "score": {"scorer": "exact_match"},
        "protocols": {"plain": {"ask": "{image}{question} Answer:"}},
    }  # fmt: skip
    path.write_text(json.dumps(spec))
    return path


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    found = []
    for turn in (*prompt.turns, Turn(prompt.query, ())):
        for role, parts in (("user", turn.ask), ("assistant", turn.reply)):
            content = [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                for part in parts
            ]
            if content:
                found.append({"role": role, "content": content})
    return found


@torch.inference_mode()
def plain(model: Any, processor: Any, prompt: Prompt, new: int) -> str:
    """One sample as the documentation asks for it."""
    text = processor.apply_chat_template(messages(prompt), add_generation_prompt=True)
    shown = [load(part) for part in prompt.images() if isinstance(part, Image)]
    inputs = processor(text=[text], images=[shown], return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=new, do_sample=False)
    answer: str = processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer


class Clock:
    """CPU seconds of this process inside a method, which is put back afterwards.

    CPU time, threads included, so that other work on the machine does not count.
    """

    def __init__(self, owner: Any, name: str):
        self.owner, self.name, self.seconds = owner, name, 0.0
        self.own = getattr(owner, name)

    def __enter__(self) -> Clock:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return self.own(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - started

        setattr(self.owner, self.name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32, help="queries timed at each setting")
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="where the harness's time goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hf.logging.disable_progress_bar()
    hf.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "model")
        task = draw(folder / "task", options.samples)
        settings = {"checkpoint": str(folder / "model"), "dtype": "float32", "batch": BATCH}
        model_file = folder / "small.json"
        model_file.write_text(
            json.dumps({"name": "small", "adapter": "huggingface", "settings": settings})
        )
        model = hf.AutoModelForImageTextToText.from_pretrained(folder / "model")
        processor = hf.AutoProcessor.from_pretrained(folder / "model")
        print(
            f"{'shots':>6} {'chosen':>8} {'plain/s':>9} {'here/s':>9} {'gain':>7} {'around, ms':>11}"
        )
        # What is done once in a process is nobody's.
        evaluate(str(task), str(model_file), shots=0, out=folder / "first")
        for shots, chooser in product(options.shots, ("fixed", "random")):
            changes = [f"task.demonstrations.chooser={chooser}"]
            timed = []
            for repeat in range(options.repeats):
                out = folder / f"{shots}{chooser}{repeat}"
                setting = RunOptions.of(shots=shots, changes=changes, out=out)
                timed.append(
                    compare(model, processor, str(task), str(model_file), setting, options)
                )
            loop, here, gain, around = (median(column) for column in zip(*timed, strict=True))
            print(
                f"{shots:>6} {chooser:>8} {loop:>9.1f} {here:>9.1f} {gain:>6.1f}x {around:>11.2f}",
                flush=True,
            )


def compare(
    model: Any, processor: Any, task: str, model_file: str, setting: RunOptions, options: Any
) -> tuple[float, float, float, float]:
    """Samples a second of the plain loop and of the harness, their ratio, and milliseconds around."""
    ((plan,),) = plans([task], [model_file], setting)
    asked = [planned.request for planned in plan]
    new = asked[0].output.max_new_tokens if isinstance(asked[0].output, TextOutput) else 0
    plain(model, processor, asked[0].prompt, new)
    started = time.process_time()
    wanted = [plain(model, processor, request.prompt, new) for request in asked]
    loop = time.process_time() - started
    profile = cProfile.Profile() if options.profile else nullcontext()
    with (
        Clock(Inference, "texts") as inside,
        Clock(HuggingFaceAdapter, "load") as loading,
        Clock(evaluation, "run_plan") as running,
        profile,
    ):
        (result,) = evaluation.run_all([task], [model_file], setting)
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
    here = running.seconds - loading.seconds
    rows = (result.folder / "responses.jsonl").read_text().splitlines()
    found = {row["id"]: row["text"] for row in map(json.loads, rows)}
    unlike = sum(found[p.id] != text for p, text in zip(plan, wanted, strict=True))
    if unlike:
        print(f"{unlike} of {len(asked)} answers differ from the plain loop's", flush=True)
    count = len(asked)
    return count / loop, count / here, loop / here, (here - inside.seconds) / count * 1000


if __name__ == "__main__":
    main()
