"""Trains the decoder of models/stories: its tokens, its network in PyTorch, the loop.

make_stories.py calls it. Nothing is written here. The loss counts what the model is to say: stories and answers, not questions.
"""

import random
import time

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from stories_corpus import story
from stories_graph import Shape, rotation
from stories_tasks import STORY_LEAST_WORDS, chat

END_OF_TEXT, SYSTEM, USER, ASSISTANT, END = range(5)
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
STORY_SHARE = 0.25
TASK_WEIGHT = 3


class Rows:
    """Documents one after another in rows of a length; a row starts with a new one and its last is cut."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        self.documents = self.stream()

    def stream(self):
        """Documents without end, each its token ids and how much each counts."""
        while True:
            if self.rng.random() < STORY_SHARE:
                ids = self.tokenizer.encode(story(self.rng)[0]).ids + [END_OF_TEXT]
                yield ids, [1] * len(ids)
                continue
            ids, weights = [], []
            for message in chat(self.rng):
                said = self.tokenizer.encode(message["content"]).ids
                own = message["role"] == "assistant"
                weight = 0 if not own else 1 if message["content"].count(" ") > STORY_LEAST_WORDS else TASK_WEIGHT
                ids += [ROLES[message["role"]], *said, END]
                weights += [0] + [weight] * (len(said) + 1)
            yield [*ids, END_OF_TEXT], [*weights, 0]

    def batch(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Ids and weights [rows, length + 1]."""
        ids, weights = np.zeros((rows, length + 1), np.int64), np.zeros((rows, length + 1), np.float32)
        for row in range(rows):
            at = 0
            while at <= length:
                document, counts = next(self.documents)
                end = min(length + 1, at + len(document))
                ids[row, at:end], weights[row, at:end] = document[:end - at], counts[:end - at]
                at = end
        return torch.from_numpy(ids), torch.from_numpy(weights)


class Decoder(nn.Module):
    """Llama's layers; parameters are stored under the names that transformers gives them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head
        sizes = {"self_attn.q_proj": (shape.width, shape.width), "self_attn.k_proj": (kv, shape.width), "self_attn.v_proj": (kv, shape.width),
                 "self_attn.o_proj": (shape.width, shape.width), "mlp.gate_proj": (shape.ffn, shape.width),
                 "mlp.up_proj": (shape.ffn, shape.width), "mlp.down_proj": (shape.width, shape.ffn)}
        self.table = nn.ParameterDict()
        self.add("model.embed_tokens", torch.randn(shape.vocab, shape.width) * 0.02)
        for index in range(shape.layers):
            for name, size in sizes.items():
                last = name in ("self_attn.o_proj", "mlp.down_proj")
                scale = 0.02 / (2 * shape.layers) ** 0.5 if last else size[1] ** -0.5
                self.add(f"model.layers.{index}.{name}", torch.randn(size) * scale)
            for name in ("input_layernorm", "post_attention_layernorm"):
                self.add(f"model.layers.{index}.{name}", torch.ones(shape.width))
        self.add("model.norm", torch.ones(shape.width))
        cos, sin = (torch.from_numpy(np.concatenate([half, half], axis=1)) for half in rotation(shape))
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def add(self, name: str, value: Tensor) -> None:
        """Adds a parameter (dots are not allowed in PyTorch's names)."""
        self.table[name.replace(".", "/") + "/weight"] = nn.Parameter(value)

    def weights(self) -> dict[str, np.ndarray]:
        """All parameters by transformers' names."""
        return {name.replace("/", "."): value.detach().numpy() for name, value in self.table.items()}

    def norm(self, x: Tensor, name: str) -> Tensor:
        """RMSNorm."""
        return functional.rms_norm(x, (self.shape.width,), self.table[name + "/weight"], self.shape.epsilon)

    def turn(self, x: Tensor) -> Tensor:
        """Rotary positions from 0."""
        first, second = x.chunk(2, dim=-1)
        length = x.shape[2]
        return x * self.cos[:length] + torch.cat([-second, first], dim=-1) * self.sin[:length]

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of ids that start at position 0."""
        shape, table = self.shape, self.table
        batch, length = ids.shape
        embedding = table["model/embed_tokens/weight"]
        hidden = functional.embedding(ids, embedding)
        for index in range(shape.layers):
            layer = f"model/layers/{index}/"

            def part(x: Tensor, name: str, layer: str = layer) -> Tensor:
                return functional.linear(x, table[layer + name.replace(".", "/") + "/weight"])

            x = self.norm(hidden, layer + "input_layernorm")
            q, k, v = (part(x, f"self_attn.{which}_proj").view(batch, length, -1, shape.head).transpose(1, 2) for which in "qkv")
            k, v = (value.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for value in (self.turn(k), v))
            x = functional.scaled_dot_product_attention(self.turn(q), k, v, is_causal=True)
            hidden = hidden + part(x.transpose(1, 2).reshape(batch, length, shape.width), "self_attn.o_proj")
            x = self.norm(hidden, layer + "post_attention_layernorm")
            hidden = hidden + part(functional.silu(part(x, "mlp.gate_proj")) * part(x, "mlp.up_proj"), "mlp.down_proj")
        return functional.linear(self.norm(hidden, "model/norm"), embedding)


def loss_of(model: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean loss in nats per token that counts."""
    logits = model(ids[:, :-1])
    each = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    counts = weights[:, 1:].reshape(-1)
    return (each * counts).sum() / counts.sum()


def train(tokenizer: Tokenizer, shape: Shape, steps: int, seed: int) -> Decoder:
    """The trained decoder. Three steps in four have rows of half the context, the fourth whole ones."""
    torch.manual_seed(seed)
    model = Decoder(shape)
    run = torch.compile(model, dynamic=False)
    matrices = [value for name, value in model.table.items() if value.ndim == 2 and "embed" not in name]
    others = [value for name, value in model.table.items() if value.ndim == 1 or "embed" in name]
    optimizers = [torch.optim.Muon(matrices, lr=0.01, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0)]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    rows, began, seen = Rows(tokenizer, seed), time.time(), 0
    for step in range(steps):
        share = min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (0.5 * steps))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * max(share, 0.02)
        count, length = (8, shape.context) if step % 4 == 3 else (16, shape.context // 2)
        loss = loss_of(run, *rows.batch(count, length))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += count * length
        if step % 25 == 24 or step == steps - 1:
            print(f"step {step + 1}/{steps}: loss {loss.item():.4f}, {seen} tokens, {time.time() - began:.0f} s", flush=True)
    return model
