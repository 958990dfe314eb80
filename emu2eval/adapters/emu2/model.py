"""Emu2: EVA-CLIP images and text in one sequence, read by LLaMA (arXiv 2312.13286, section 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import create_causal_mask

from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config
from emu2eval.adapters.emu2.vision import EvaVisionTower, pool
from emu2eval.adapters.local.attention import register
from emu2eval.adapters.local.devices import device_of
from emu2eval.adapters.local.head import wide_scores
from emu2eval.adapters.local.private import set_attention


class Emu2(nn.Module):
    """The whole model. State-dict keys are those of the released native checkpoints.

    It can be built under `torch.device("meta")`; it has no buffers, so loading the parameters is all.
    """

    def __init__(self, config: Emu2Config):
        super().__init__()
        self.config = config
        self.visual = EvaVisionTower(config.vision)
        self.decoder = Decoder(config.decoder)
        width, hidden = config.vision.width, config.decoder.hidden_size
        self.project_up = nn.Linear(width, hidden, bias=False)
        self.project_down = nn.Linear(hidden, width, bias=False)

    @property
    def device(self) -> torch.device:
        """Where token ids and embeddings go."""
        return device_of(self.decoder.lm.model.embed_tokens)

    @property
    def image_device(self) -> torch.device:
        """Where pixels go."""
        return device_of(self.visual.patch_embed.proj)

    @property
    def dtype(self) -> torch.dtype:
        return self.project_up.weight.dtype

    def encode_images(self, pixels: Tensor, tokens: int | None = None) -> Tensor:
        """(N, 3, size, size) -> (N, tokens, width) pooled features; tokens: n_query by default."""
        visual = self.visual(pixels.to(self.image_device, self.dtype))
        return pool(visual, self.config.n_query if tokens is None else tokens)

    def embed(
        self, ids: Tensor, slots: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """Embeddings of ids, the True places of slots taken by project_up(features), in reading order.

        ids, slots: any equal shape; features: (slots, width). Returns (*ids.shape, hidden).
        """
        embeds: Tensor = self.decoder.lm.model.embed_tokens(ids.to(self.device))
        if slots is not None and features is not None and len(features):
            embeds = embeds.to(self.device, copy=True)
            embeds[slots.to(self.device)] = self.up(features).to(embeds.dtype)
        return embeds

    def up(self, features: Tensor) -> Tensor:
        """Visual features (…, width) as embeddings (…, hidden)."""
        embeds: Tensor = self.project_up(features.to(device_of(self.project_up), self.dtype))
        return embeds.to(self.device)

    def down(self, hidden: Tensor) -> Tensor:
        """Hidden states (…, hidden) as visual embeddings (…, width): what Emu2-Gen paints."""
        features: Tensor = self.project_down(hidden.to(device_of(self.project_down)))
        return features

    def read(
        self, embeds: Tensor, mask: Tensor | None = None, cache: DynamicCache | None = None
    ) -> Tensor:
        """Hidden states after the final norm, (rows, new, hidden), of new positions on top of a cache.

        embeds: (rows, new, hidden); mask: (rows, cached + new), 0 at padding; None = there is none.
        """
        before = 0 if cache is None else cache.get_seq_length()
        if mask is None:
            new = torch.arange(before, before + embeds.shape[1], device=embeds.device)
            positions = new[None].expand(len(embeds), -1)
        else:
            mask = mask.to(embeds.device)
            positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, before:]
            if cache is not None and embeds.shape[1] == 1:
                # As transformers would make it, but it waits for the device to know whether all is seen.
                _, ahead = cache.get_mask_sizes(1, 0)
                mask = mask[:, None, None, ahead:].bool()
        hidden: Tensor = self.decoder(embeds, mask, positions, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, hidden) -> (…, vocabulary) in fp32.

        Products of bf16 stay in fp32, in which they are summed: rounded to bf16, logits of 16 to 32 are
        multiples of 0.125, so that close words tie.
        """
        head = self.decoder.lm.lm_head
        weight = head.weight
        # An offloaded layer has no weights until it is called.
        if type(head) is nn.Linear and weight.dtype == torch.bfloat16 and not weight.is_meta:
            return wide_scores(hidden.to(weight.device), weight).to(self.device)
        scores: Tensor = head(hidden)
        return scores.float().to(self.device)


class Decoder(nn.Module):
    """transformers' own LLaMA, built at the final vocabulary, as `lm`."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        llama = LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            rms_norm_eps=config.rms_norm_eps,
            max_position_embeddings=config.max_position_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=False,
        )
        set_attention(llama, register())
        self.lm = LlamaForCausalLM(llama)
        self.lm.model.rotary_emb = Rotary(
            config.hidden_size // config.num_attention_heads, config.rope_theta
        )

    def forward(self, embeds: Tensor, mask: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """What LLaMA's own forward gives, its layers on any devices. See `Emu2.read`.

        mask: also as attention takes it, (rows, 1, new, length). cache: whatever layers `update`.

        Hidden states move where the next layer lies elsewhere; what all layers take is sent once a device.
        """
        llama = self.lm.model
        seen: Any = mask
        if mask is None or mask.ndim != 4:
            given: dict[str, Any] = {"past_key_values": cache, "position_ids": positions}
            seen = create_causal_mask(llama.config, embeds, mask, **given)
        turns = llama.rotary_emb(embeds, position_ids=positions)
        hidden, at = embeds, {embeds.device: (seen, turns)}
        for layer in llama.layers:
            place = device_of(layer)
            if place not in at:
                at[place] = None if seen is None else seen.to(place), _sent(turns, place)
            hidden = layer(
                hidden if hidden.device == place else hidden.to(place),
                attention_mask=at[place][0],
                position_embeddings=at[place][1],
                past_key_values=cache,
                use_cache=cache is not None,
            )
        found: Tensor = llama.norm(hidden.to(device_of(llama.norm)))
        return found


class Rotary(nn.Module):
    """Rotary position encoding (arXiv 2104.09864) whose angles are fp32 whatever the model's dtype.

    It holds no buffer, so that no cast of the module can touch the frequencies: in bf16 the
    angles are off by radians within one context. Only cosine and sine are rounded to the working dtype.
    """

    def __init__(self, head_dim: int, theta: float):
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        exponent = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=x.device)
        frequency = 1.0 / self.theta ** (exponent / self.head_dim)
        angle = position_ids[..., None].to(x.device, torch.float32) * frequency
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def _sent(pair: tuple[Tensor, Tensor], place: torch.device) -> tuple[Tensor, Tensor]:
    return pair[0].to(place), pair[1].to(place)
