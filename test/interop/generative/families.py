"""The families of decoders that the interop suite runs: for each a tiny model of random weights, with a tokenizer of its
kind.

make_families.py calls it. Everything is seeded. Nothing is downloaded: configurations are written out, tokenizers
learn from our own stories.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

import vocabularies

CONTEXT = 256


@dataclass(frozen=True)
class Family:
    """A family: its configuration class and what differs from COMMON, its kind of tokenizer, and which exports it gets."""

    name: str
    config: str
    tokenizer: str
    sizes: dict = field(default_factory=dict)
    seed: int = 1
    exports: tuple[str, ...] = ("optimum-fp32", "genai-fp32", "genai-int4")


COMMON = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}
WITHOUT_GROUPS = {"head_dim": None, "num_key_value_heads": None}
FAMILIES = [
    Family(
        "llama",
        "LlamaConfig",
        "llama3",
        {"rope_theta": 10000.0},
        exports=("optimum-fp32", "genai-fp32", "genai-int4", "optimum-fp16", "optimum-int8", "optimum-external"),
    ),
    Family(
        "gpt2",
        "GPT2Config",
        "gpt2",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "tie_word_embeddings": False},
        seed=2,
    ),
    Family(
        "qwen2",
        "Qwen2Config",
        "qwen",
        {"tie_word_embeddings": True},
        seed=2,
        exports=("optimum-fp32", "genai-fp32", "genai-int4", "optimum-fp16"),
    ),
    Family("qwen3", "Qwen3Config", "qwen", {"head_dim": 32}),
    Family(
        "gemma3",
        "Gemma3TextConfig",
        "gemma",
        {
            "head_dim": 32,
            "num_key_value_heads": 1,
            "sliding_window": 16,
            "query_pre_attn_scalar": 32,
            "tie_word_embeddings": True,
            # The builder knows Gemma's layers by their number: each sixth sees all, the others what the window has.
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
        seed=2,
    ),
    Family(
        "phi",
        "PhiConfig",
        "gpt2",
        {"head_dim": None, "num_attention_heads": 2, "num_key_value_heads": 2, "partial_rotary_factor": 0.5},
    ),
    Family("phi3", "Phi3Config", "phi3", {"original_max_position_embeddings": CONTEXT, "head_dim": None}),
    Family("mistral", "MistralConfig", "mistral"),
    Family("gptneox", "GPTNeoXConfig", "gpt2", WITHOUT_GROUPS, seed=5, exports=("optimum-fp32",)),
    # The table of positions begins with two that no token has.
    Family(
        "opt",
        "OPTConfig",
        "gpt2",
        WITHOUT_GROUPS | {"ffn_dim": 128, "intermediate_size": None, "word_embed_proj_dim": 64},
        exports=("optimum-fp32",),
    ),
    # Attention knows only how far tokens are from each other.
    Family(
        "mpt",
        "MptConfig",
        "gpt2",
        {key: None for key in COMMON}
        | {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": CONTEXT, "expansion_ratio": 2},
        seed=5,
        exports=("optimum-fp32",),
    ),
    # Each second layer sees a window, of which there is a table for the context and no more.
    Family(
        "gptneo",
        "GPTNeoConfig",
        "gpt2",
        WITHOUT_GROUPS
        | {"num_layers": 2, "num_hidden_layers": None, "num_heads": 4, "num_attention_heads": None}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 16},
        exports=("optimum-fp32",),
    ),
]


def make_source(family: Family, directory: Path) -> None:
    """Writes the family's model as transformers saves one."""
    tokenizer = vocabularies.make(family.tokenizer, directory)
    sizes = family.sizes if family.name == "gpt2" else COMMON | family.sizes
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, family.config)(
        vocab_size=len(tokenizer), **{key: value for key, value in sizes.items() if value is not None}, **ends
    )
    torch.manual_seed(family.seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    scatter(model)
    model.save_pretrained(directory)


def scatter(model: torch.nn.Module) -> None:
    """Weights large enough that tokens depend on all that came before and that the likeliest is far from the next."""
    gemma = "gemma" in model.config.model_type
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or "ln_" in name:
                value.add_(torch.randn_like(value) * 0.2 + (16 if gemma and name == "model.norm.weight" else 0))
            elif name.endswith("bias"):
                value.normal_(0, 0.1)
            elif "embed" in name or "wte" in name or "wpe" in name:
                # Gemma multiplies these by the root of the width; the last norm makes up for it where they are the last layer.
                value.normal_(0, 0.03 if gemma else 1.5 if "wte" in name else 0.5)
            else:
                fan_in = value.shape[0] if "c_" in name else value.shape[-1]
                value.normal_(0, (5.0 if "head" in name else 3.0) / math.sqrt(fan_in))
                if "mlp.c_proj" in name or "mlp.fc2" in name:
                    # What GELU gives is on average above 0, and would become the same large offset for every token.
                    value.sub_(value.mean(0 if "c_" in name else 1, keepdim=True))
