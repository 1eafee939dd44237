"""What the decoder of models/stories starts from: random weights, but for two heads that can copy.

stories_training.py calls it. A small model finds out late that "what came after this token before comes again" (an
induction head), since two heads in two layers must learn their halves at once. Here both halves are laid out roughly;
training does the rest.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from stories_graph import Shape

# Found by trying: with these, tokens drawn at random cost 3.1 nats when said again instead of 6.6, before any training.
EMBEDDING, CONSTANT, LOOK_BACK, MATCH, CARRY, SAY = 0.2, 0.6, 6.0, 2.5, 0.4, 3.2
FAST, SLOW = range(3), range(5, 16)
QUIET = 0.0005


def start(shape: Shape) -> dict[str, Tensor]:
    """All weights, by transformers' names."""
    kv = shape.kv_heads * shape.head
    sizes = {
        "self_attn.q_proj": (shape.width, shape.width),
        "self_attn.k_proj": (kv, shape.width),
        "self_attn.v_proj": (kv, shape.width),
        "self_attn.o_proj": (shape.width, shape.width),
        "mlp.gate_proj": (shape.ffn, shape.width),
        "mlp.up_proj": (shape.ffn, shape.width),
        "mlp.down_proj": (shape.width, shape.ffn),
    }
    weights = {
        "model.embed_tokens.weight": torch.randn(shape.vocab, shape.width) * EMBEDDING,
        "model.norm.weight": torch.ones(shape.width),
    }
    for index in range(shape.layers):
        for name, size in sizes.items():
            last = name in ("self_attn.o_proj", "mlp.down_proj")
            scale = QUIET if last else size[1] ** -0.5
            weights[f"model.layers.{index}.{name}.weight"] = torch.randn(size) * scale
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{index}.{name}.weight"] = torch.ones(shape.width)
    copying_heads(weights, shape)
    return weights


def copying_heads(weights: dict[str, Tensor], shape: Shape) -> None:
    """Head 0 of layer 0 brings each token the one before; head 0 of layer 1 looks for this token there and says what it finds."""

    def part(layer: int, which: str) -> Tensor:
        return weights[f"model.layers.{layer}.self_attn.{which}_proj.weight"]

    def frame() -> Tensor:
        rows = torch.linalg.qr(torch.randn(shape.width, shape.head)).Q.T.contiguous()
        rows[:, 0] = 0
        return rows

    size, half = shape.head, shape.head // 2
    # A number that all tokens share: by it alone, turned back by one position, a head finds the token before.
    weights["model.embed_tokens.weight"][:, 0] = CONSTANT
    reads, writes, says = frame(), frame(), frame()
    for layer in (0, 1):
        part(layer, "q")[:size], part(layer, "k")[:size] = 0, 0
    for pair in FAST:
        angle = shape.theta ** (-pair / half)
        part(0, "k")[pair, 0] = LOOK_BACK
        part(0, "q")[pair, 0], part(0, "q")[pair + half, 0] = LOOK_BACK * math.cos(angle), -LOOK_BACK * math.sin(angle)
    part(0, "v")[:size], part(0, "o")[:, :size] = reads, CARRY * writes.T
    # In pairs that turn slowly, so that it finds the token at any distance.
    rows = [*SLOW, *(pair + half for pair in SLOW)]
    part(1, "q")[rows], part(1, "k")[rows] = MATCH * reads[rows], MATCH * writes[rows]
    part(1, "v")[:size], part(1, "o")[:, :size] = says, SAY * says.T


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions from 0 of [batch, heads, length, head]."""
    first, second = x.chunk(2, dim=-1)
    length = x.shape[2]
    return x * cos[:length] + torch.cat([-second, first], dim=-1) * sin[:length]


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis."""
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)
