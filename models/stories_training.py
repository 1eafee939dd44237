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
from stories_start import rms_norm, rotate, start
from stories_tasks import STORY_LEAST_WORDS, chat
from stories_tokenizer import SPECIAL

END_OF_TEXT, SYSTEM, USER, ASSISTANT, END = range(len(SPECIAL))
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
STORY_SHARE = 0.2
TASK_WEIGHT = 4
# The first steps have short rows of noise to copy, until that is learnt.
NOISE_STEPS, NOISE_ROWS, NOISE_LENGTH, NOISE_LOSS = 200, 32, 64, 1.0


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

    def noise(self):
        """Documents without end that say random tokens twice."""
        while True:
            said = [self.rng.randrange(len(SPECIAL), self.tokenizer.get_vocab_size()) for _ in range(self.rng.randint(2, 24))]
            yield [USER, *said, END, ASSISTANT, *said, END], [0] * (len(said) + 3) + [TASK_WEIGHT] * (len(said) + 1)

    def batch(self, rows: int, length: int, noisy: int = 0) -> tuple[Tensor, Tensor]:
        """Ids and weights [rows, length + 1]; the first so many rows of noise."""
        ids, weights = np.zeros((rows, length + 1), np.int64), np.zeros((rows, length + 1), np.float32)
        noise = self.noise()
        for row in range(rows):
            at = 0
            while at <= length:
                document, counts = next(noise if row < noisy else self.documents)
                end = min(length + 1, at + len(document))
                ids[row, at:end], weights[row, at:end] = document[: end - at], counts[: end - at]
                at = end
        return torch.from_numpy(ids), torch.from_numpy(weights)


class Decoder(nn.Module):
    """Llama's layers; parameters are stored under the names that transformers gives them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        # PyTorch allows no dots in names.
        self.table = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(value) for name, value in start(shape).items()})
        cos, sin = (torch.from_numpy(np.concatenate([half, half], axis=1)) for half in rotation(shape))
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def weights(self) -> dict[str, np.ndarray]:
        """All parameters by transformers' names."""
        return {name.replace("/", "."): value.detach().numpy() for name, value in self.table.items()}

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

            x = rms_norm(hidden, table[layer + "input_layernorm/weight"], shape.epsilon)
            q, k, v = (part(x, f"self_attn.{which}_proj").view(batch, length, -1, shape.head).transpose(1, 2) for which in "qkv")
            k, v = (value.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for value in (rotate(k, self.cos, self.sin), v))
            x = functional.scaled_dot_product_attention(rotate(q, self.cos, self.sin), k, v, is_causal=True)
            hidden = hidden + part(x.transpose(1, 2).reshape(batch, length, shape.width), "self_attn.o_proj")
            x = rms_norm(hidden, table[layer + "post_attention_layernorm/weight"], shape.epsilon)
            hidden = hidden + part(functional.silu(part(x, "mlp.gate_proj")) * part(x, "mlp.up_proj"), "mlp.down_proj")
        return functional.linear(rms_norm(hidden, table["model/norm/weight"], shape.epsilon), embedding)


def loss_of(model: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean loss in nats per token that counts."""
    logits = model(ids[:, :-1])
    each = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    counts = weights[:, 1:].reshape(-1)
    return (each * counts).sum() / counts.sum()


def train(
    tokenizer: Tokenizer, shape: Shape, steps: int, minutes: float, seed: int, trained: dict[str, np.ndarray] | None = None
) -> Decoder:
    """The trained decoder. After the rows of noise, three steps in four have rows of half the context, the fourth whole ones.

    With weights of an earlier run it goes on from them, at half the rate and without noise.
    """
    torch.manual_seed(seed)
    model = Decoder(shape)
    for name, value in (trained or {}).items():
        model.table[name.replace(".", "/")].data.copy_(torch.from_numpy(value))
    run = torch.compile(model, dynamic=False)
    matrices = [value for name, value in model.table.items() if value.ndim == 2 and "embed" not in name]
    others = [value for name, value in model.table.items() if value.ndim == 1 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [optimizer.param_groups[0]["lr"] * (0.5 if trained else 1) for optimizer in optimizers]
    rows, began, seen, step, done, recent = Rows(tokenizer, seed), time.time(), 0, 0, 0.0, 0.0
    noisy = trained is None
    while done < 1:
        done = max((step + 1) / steps, (time.time() - began) / (60 * minutes))
        share = min(1.0, (step + 1) / 50, max(0.02, (1 - done) / 0.6))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        length = NOISE_LENGTH if noisy else shape.context if step % 4 == 3 else shape.context // 2
        count = NOISE_ROWS if noisy else 4096 // length
        loss = loss_of(run, *rows.batch(count, length, count if noisy else count // 16))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen, recent = step + 1, seen + count * length, recent + loss.item() / 25
        if step % 25 == 0 or done >= 1:
            print(
                f"step {step} of {steps}, {100 * done:.0f} %: loss {recent:.4f}, {seen} tokens, {time.time() - began:.0f} s",
                flush=True,
            )
            noisy = noisy and recent > NOISE_LOSS and step < NOISE_STEPS
            recent = 0.0
    return model
