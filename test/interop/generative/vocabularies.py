"""Tokenizers of the kinds that the families have, small, learnt from our own stories.

families.py calls it. The rules (what is split off, how spaces and unknown bytes are written, what stands before a
text) are those of each kind; the chat templates are short ones of our own in its style.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models"))
from stories_corpus import story  # noqa: E402

SIZE = 512
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LOOP = "{% for m in messages %}"
END_LOOP = "{% endfor %}{% if add_generation_prompt %}"
# Special tokens (beginning, end, padding first), whether a beginning is put before a text, the class that
# tokenizer_config.json names, the chat template.
KINDS = {
    "gpt2": (["<|endoftext|>"], False, "GPT2Tokenizer", None),
    "llama3": (
        ["<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"],
        True,
        "PreTrainedTokenizerFast",
        "{{ bos_token }}"
        + LOOP
        + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
        + END_LOOP
        + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    "qwen": (
        ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        False,
        "Qwen2Tokenizer",
        LOOP
        + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        + END_LOOP
        + "{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    "gemma": (
        ["<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        True,
        "GemmaTokenizer",
        "{{ bos_token }}"
        + LOOP
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
        "+ '<end_of_turn>\n' }}" + END_LOOP + "{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
    "mistral": (
        ["<s>", "</s>", "<unk>"],
        True,
        "LlamaTokenizer",
        "{{ bos_token }}" + LOOP + "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}"
        "{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    "phi3": (
        ["<s>", "<|end|>", "<unk>", "<|user|>", "<|assistant|>", "<|endoftext|>"],
        True,
        "LlamaTokenizer",
        LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}" + END_LOOP + "{{ '<|assistant|>\n' }}{% endif %}",
    ),
}


def make(kind: str, directory: Path) -> PreTrainedTokenizerBase:
    """Writes a tokenizer's files and gives what Python reads from them."""
    special, begins, cls, template = KINDS[kind]
    tokenizer = pieces(kind, special) if kind in ("gemma", "mistral", "phi3") else byte_level(kind, special)
    if begins:
        first = special[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, tokenizer.token_to_id(first))]
        )
    end = special[1] if len(special) > 1 else special[0]
    names = {"bos_token": special[0], "eos_token": end, "pad_token": special[2] if kind in ("gemma", "llama3") else end}
    if "<unk>" in special:
        names["unk_token"] = "<unk>"
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=256, **names)
    if template is not None:
        whole.chat_template = template
    directory.mkdir(parents=True, exist_ok=True)
    whole.save_pretrained(directory)
    settings = directory / "tokenizer_config.json"
    content = json.loads(settings.read_text()) | {"tokenizer_class": cls}
    if cls in ("LlamaTokenizer", "GemmaTokenizer"):
        content |= {"add_bos_token": True, "add_eos_token": False, "legacy": False, "sp_model_kwargs": {}}
    settings.write_text(json.dumps(content, indent=2, ensure_ascii=False))
    return AutoTokenizer.from_pretrained(directory)


def texts() -> Iterator[str]:
    """What tokenizers learn from."""
    rng = random.Random(11)
    for _ in range(600):
        yield story(rng)[0]


def added(special: list[str]) -> list[AddedToken]:
    """Special tokens, taken from a text as they stand."""
    return [AddedToken(text, special=True, normalized=False) for text in special]


def byte_level(kind: str, special: list[str]) -> Tokenizer:
    """BPE on bytes: GPT-2's own splitting, or that of Llama 3 and Qwen, which is given as a pattern."""
    tokenizer = Tokenizer(models.BPE())
    if kind == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=added(special), show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def pieces(kind: str, special: list[str]) -> Tokenizer:
    """BPE on characters as SentencePiece has it: spaces are written ▁, what has no token is written in bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never" if kind == "gemma" else "first")
    learner.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=SIZE - 256 - len(special), show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(learnt["vocab"], key=learnt["vocab"].get)]
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(
        models.BPE({name: index for index, name in enumerate(names)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.add_special_tokens(added(special))
    if kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    return tokenizer
