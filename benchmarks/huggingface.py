"""What the harness gains over the plain loop on a small Idefics3, and the best loop by hand over it.

The plain loop is what the documentation of transformers shows: for each sample the template, the processor
with all its images, `generate`, one at a time. The best loop is what somebody writes who knows the model and
all prompts beforehand: each image encoded once, the beginning that all prompts share read once, batches of 8,
a greedy loop on the decoder itself. The harness runs the same requests through the engine, batch 8, with
everything that a run stores and scores. Random weights; all three give the same answers.

Times are CPU time of one thread; the three take turns, and each ratio is the median over the turns. "around"
is what a sample costs outside of the model. Every run begins anew, with its images and the beginning that its
prompts share, which weighs less the more samples there are.

    python benchmarks/huggingface.py [--samples 32] [--shots 0 4 8 16] [--examples fixed random] [--repeats 3]
        [--profile] [--quick]
"""

from __future__ import annotations

import cProfile
import json
import pstats
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from measuring import Clock, arguments, headline, model_file, seconds, squares, table
from PIL import Image as PILImage
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from emu2eval import evaluate
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.local.encoded import common
from emu2eval.adapters.local.inference import Inference
from emu2eval.engine import carrying, evaluation
from emu2eval.engine.evaluation import plans
from emu2eval.engine.judges import Scoring
from emu2eval.engine.options import RunOptions
from emu2eval.media.images import load
from emu2eval.types import Image, Prompt, TextOutput, Turn

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BATCH = 8
SAMPLES = 32
hf: Any = transformers


def build(folder: Path, sizes: Mapping[str, int] | None = None, dtype: Any = torch.float32) -> None:
    """A small Idefics3 with its processor: 16 positions for an image of 64 x 64 pixels.

    sizes: of its decoder, in place of small ones.
    """
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
        **(sizes or {}),
    }  # fmt: skip
    torch.manual_seed(0)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.Idefics3Config(
        vision_config=vision, text_config=text, scale_factor=2, image_token_id=image, pad_token_id=0
    )
    model = hf.Idefics3ForConditionalGeneration(config).to(dtype).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


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


@dataclass
class Known:
    """A beginning that all prompts share, read once. cache: keys and values of its positions, one row."""

    length: int
    images: int
    cache: Any


@dataclass
class Best:
    """The loop by hand. features: of each image, by its path."""

    model: Any
    processor: Any
    features: dict[str, Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Prompt], new: int) -> list[str]:
        texts = [
            self.processor.apply_chat_template(messages(prompt), add_generation_prompt=True)
            for prompt in prompts
        ]
        frame, slot = "<fake_token_around_image>", "<image>"
        places = f"{frame}<global-img>{slot * self.processor.image_seq_len}{frame}"
        texts = [text.replace(slot, places) for text in texts]
        ids: list[list[int]] = self.processor.tokenizer(texts)["input_ids"]
        shown = [
            [str(i.path) for i in prompt.images() if isinstance(i, Image)] for prompt in prompts
        ]
        known = None
        if len(shown[0]) > 1 and all(row[:-1] == shown[0][:-1] for row in shown):
            slots = [i for i, word in enumerate(ids[0]) if word == self.model.config.image_token_id]
            length = min(common(ids), slots[-self.processor.image_seq_len])
            known = Known(length, len(shown[0]) - 1, hf.DynamicCache())
            self.encode(shown[0][:-1])
            first = torch.tensor([ids[0][: known.length]])
            self.logits(first, torch.ones_like(first), shown[0][:-1], known.cache)
        found = []
        for at in range(0, len(prompts), BATCH):
            some = slice(at, at + BATCH)
            found += self.batch(ids[some], shown[some], known, new)
        return found

    def batch(
        self, ids: list[list[int]], shown: list[list[str]], known: Known | None, new: int
    ) -> list[str]:
        cache, start = hf.DynamicCache(), 0
        if known is not None:
            start = known.length
            for number, layer in enumerate(known.cache.layers):
                held = (part.expand(len(ids), -1, -1, -1) for part in (layer.keys, layer.values))
                cache.update(*held, number)
            shown = [row[known.images :] for row in shown]
        paths = [path for row in shown for path in row]
        self.encode(paths)
        own = [row[start:] for row in ids]
        most = max(map(len, own))
        words = torch.tensor([[0] * (most - len(row)) + row for row in own])
        mask = torch.tensor([[1] * start + [0] * (most - len(row)) + [1] * len(row) for row in own])
        said: list[Tensor] = []
        ended = torch.zeros(len(ids), dtype=torch.bool)
        scores = self.logits(words, mask, paths, cache)
        while True:
            said.append(scores.argmax(-1))
            ended |= said[-1] == 1
            if len(said) == new or bool(ended.all()):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            scores = self.logits(said[-1][:, None], mask, [], cache)
        rows = torch.stack(said, 1).tolist()
        cut = [row[: row.index(1)] if 1 in row else row for row in rows]
        texts: list[str] = self.processor.batch_decode(cut, skip_special_tokens=True)
        return texts

    def encode(self, paths: list[str]) -> None:
        """Images that are not known yet, in one pass."""
        if new := [path for path in dict.fromkeys(paths) if path not in self.features]:
            opened = [PILImage.open(path).convert("RGB") for path in new]
            arrays = self.processor.image_processor([[one] for one in opened], return_tensors="pt")
            found = self.model.model.get_image_features(**arrays).pooler_output
            self.features |= dict(zip(new, found, strict=True))

    def logits(self, words: Tensor, mask: Tensor, paths: list[str], cache: Any) -> Tensor:
        """Of the last position of each row."""
        text = self.model.model.text_model
        embeds = text.embed_tokens(words)
        if paths:
            slots = words == self.model.config.image_token_id
            embeds[slots] = torch.cat([self.features[path] for path in paths])
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -words.shape[1] :]
        whole = None if bool(mask.all()) else mask
        out = text(
            inputs_embeds=embeds, attention_mask=whole, position_ids=places, past_key_values=cache
        )
        found: Tensor = self.model.lm_head(out.last_hidden_state[:, -1])
        return found


@dataclass(frozen=True)
class Times:
    """CPU seconds of each of the three, and of the harness outside of its model."""

    plain: float
    best: float
    here: float
    around: float


def compare(
    model: Any, processor: Any, task: str, file: str, setting: RunOptions, profiled: bool
) -> Times:
    """The three by turns, over the same requests."""
    ((plan,),) = plans([task], [file], setting)
    asked = [planned.request for planned in plan]
    new = asked[0].output.max_new_tokens if isinstance(asked[0].output, TextOutput) else 0
    prompts = [request.prompt for request in asked]
    said: dict[str, list[str]] = {}

    def loop() -> None:
        said["plain"] = [plain(model, processor, prompt, new) for prompt in prompts]

    def by_hand() -> None:
        said["best"] = Best(model, processor).answers(prompts, new)

    slow, quick = seconds(loop), seconds(by_hand)
    profile = cProfile.Profile() if profiled else nullcontext()
    with (
        Clock(Inference, "texts") as inside,
        Clock(HuggingFaceAdapter, "load") as loading,
        Clock(carrying, "ask_plan") as running,
        Clock(Scoring, "__call__") as scoring,
        profile,
    ):
        (result,) = evaluation.run_all([task], [file], setting)
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    here = running.seconds + scoring.seconds - loading.seconds
    rows = (result.folder / "responses.jsonl").read_text().splitlines()
    found = {row["id"]: row["text"] for row in map(json.loads, rows)}
    for name, texts in said.items():
        unlike = sum(found[p.id] != text for p, text in zip(plan, texts, strict=True))
        if unlike:
            print(f"{unlike} of {len(asked)} answers differ from those of the {name} loop")
    return Times(slow, quick, here, here - inside.seconds)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, help="queries timed at each setting")
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 4, 8, 16])
    parser.add_argument("--examples", nargs="*", default=["fixed", "random"])
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--profile", action="store_true", help="where the harness's time goes")
    own = parser.parse_args()
    samples = own.samples or (8 if own.quick else SAMPLES)
    repeats = own.repeats or (1 if own.quick else 3)
    torch.set_num_threads(1)
    hf.logging.disable_progress_bar()
    hf.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "model")
        task = str(squares(folder / "task", samples))
        settings = {"checkpoint": str(folder / "model"), "dtype": "float32", "batch": BATCH}
        file = str(model_file(folder / "small.json", "huggingface", **settings))
        model = hf.AutoModelForImageTextToText.from_pretrained(folder / "model")
        processor = hf.AutoProcessor.from_pretrained(folder / "model")
        # What is done once in a process is nobody's.
        evaluate(task, file, shots=0, out=folder / "first")
        lines: list[tuple[int, str, float, float, float, float]] = []
        costs: dict[tuple[int, str], float] = {}
        for shots, chooser in product(own.shots, own.examples):
            turns = []
            for repeat in range(repeats):
                setting = RunOptions.of(
                    shots=shots,
                    changes=[f"task.demonstrations.chooser={chooser}"],
                    out=folder / f"{shots}{chooser}{repeat}",
                )
                turns.append(compare(model, processor, task, file, setting, own.profile))
            gain = median(turn.plain / turn.here for turn in turns)
            left = median(turn.here / turn.best for turn in turns)
            ms = median(turn.here for turn in turns) / samples * 1000
            around = median(turn.around for turn in turns) / samples * 1000
            costs[shots, chooser] = ms
            lines.append((shots, chooser, ms, gain, left, around))
    print(f"{samples} queries, batches of {BATCH}; CPU time of one thread")
    head = ("shots", "examples", "ms a query", "plain / here", "here / best", "around, ms")
    table(head, lines)
    for shots, chooser, _, gain, left, _ in lines:
        if chooser == "fixed" or not shots:
            case = f"{shots} shots, {chooser}"
            headline("quicker than the plain loop", case, gain)
            headline("slower than the best loop", case, left)
    if (0, "fixed") in costs and (16, "fixed") in costs:
        ratio = costs[16, "fixed"] / costs[0, "fixed"]
        headline("16 fixed examples cost", "times 0 examples", ratio, wanted=2.0, most=True)


if __name__ == "__main__":
    main()
