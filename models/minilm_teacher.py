"""The teacher of make_sentence_embedding.py: all-MiniLM-L6-v2 from its safetensors file, computed with JAX on the CPU.

A BERT encoder of 6 layers; a sentence's vector is the mean of its tokens' last states, scaled to length 1.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256
BATCH = 64


def normed(x, weights, name: str, epsilon: float):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + epsilon) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def dense(x, weights, name: str):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


@partial(jax.jit, static_argnames=("layers", "heads", "epsilon"))
def encode(weights, ids, mask, *, layers: int, heads: int, epsilon: float):
    """Sentence vectors [rows, 384] of token ids [rows, tokens]."""
    rows, tokens = ids.shape
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][:tokens]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = normed(x, weights, "embeddings.LayerNorm", epsilon)
    ignored = jnp.where(mask, 0.0, -1e9)[:, None, None, :]
    for i in range(layers):
        layer = f"encoder.layer.{i}"

        def per_head(kind: str):
            return dense(x, weights, f"{layer}.attention.self.{kind}").reshape(rows, tokens, heads, -1).swapaxes(1, 2)

        query, key, value = per_head("query"), per_head("key"), per_head("value")
        scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1]) + ignored
        seen = (jax.nn.softmax(scores) @ value).swapaxes(1, 2).reshape(rows, tokens, -1)
        x = normed(x + dense(seen, weights, f"{layer}.attention.output.dense"), weights, f"{layer}.attention.output.LayerNorm", epsilon)
        wide = jax.nn.gelu(dense(x, weights, f"{layer}.intermediate.dense"), approximate=False)
        x = normed(x + dense(wide, weights, f"{layer}.output.dense"), weights, f"{layer}.output.LayerNorm", epsilon)
    pooled = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / jnp.linalg.norm(pooled, axis=1, keepdims=True)


class Teacher:
    def __init__(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        self.weights = {k: jnp.asarray(v) for k, v in load_file(folder / "model.safetensors").items()}
        self.weights = {k.removeprefix("bert."): v for k, v in self.weights.items()}
        self.options = {
            "layers": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "epsilon": config["layer_norm_eps"],
        }
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def vectors(self, rows: list[list[int]]) -> np.ndarray:
        """Rows of token ids to vectors, shortest first so that little is padding; lengths are rounded up to few shapes."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out = np.zeros((len(rows), 384), np.float32)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            longest = max(len(rows[i]) for i in part)
            width = -(-longest // 4) * 4
            ids = np.zeros((BATCH, width), np.int32)
            mask = np.zeros((BATCH, width), bool)
            mask[:, 0] = True
            for n, i in enumerate(part):
                ids[n, : len(rows[i])] = rows[i]
                mask[n, : len(rows[i])] = True
            out[part] = np.asarray(encode(self.weights, ids, mask, **self.options))[: len(part)]
        return out
