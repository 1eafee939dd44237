"""Runs the exported graphs of models/stories as a server would, and says how well they answer.

make_stories.py calls it. Everything is measured on the graphs themselves with ONNX Runtime, greedily, on prompts that
were not trained on.
"""

import random
import re
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from stories_corpus import story
from stories_tasks import ADD, COUNT, COUNT_TO, NAMES, draw, is_held_out
from stories_tokenizer import SPECIAL
from stories_words import HOMES

END_OF_TEXT, END = SPECIAL.index("<|endoftext|>"), SPECIAL.index("<|end|>")
USER, ASSISTANT = SPECIAL.index("<|user|>"), SPECIAL.index("<|assistant|>")
CONTEXT = 512


class Runner:
    """One graph, one sequence at a time."""

    def __init__(self, model: Path | bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.cache = {value.name: (value.shape[1], value.shape[3]) for value in self.session.get_inputs() if "past" in value.name}

    def run(
        self,
        ids: np.ndarray,
        past: dict[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
        positions: np.ndarray | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits of ids [batch, length] after a past, and the past with them."""
        rows, length = ids.shape
        past = past or {name: np.zeros((rows, heads, 0, size), np.float32) for name, (heads, size) in self.cache.items()}
        before = next(iter(past.values())).shape[2]
        mask = np.ones((rows, before + length), np.int64) if mask is None else mask
        if positions is None:
            positions = np.tile(np.arange(before, before + length), (rows, 1))
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
        results = self.session.run(self.outputs, {name: feeds[name] for name in self.inputs})
        return results[0], {
            name.replace("present", "past_key_values"): value for name, value in zip(self.outputs[1:], results[1:], strict=True)
        }

    def greedy(self, ids: list[int], limit: int) -> list[int]:
        """The likeliest tokens after ids, up to and without an end token."""
        said: list[int] = []
        logits, past = self.run(np.array([ids], np.int64))
        while len(said) < limit:
            token = int(logits[0, -1].argmax())
            if token in (END_OF_TEXT, END):
                break
            said.append(token)
            logits, past = self.run(np.array([[token]], np.int64), past)
        return said


def ask(runner: Runner, tokenizer: Tokenizer, prompt: str, limit: int = 120) -> str:
    """The answer to one message."""
    ids = [USER, *tokenizer.encode(prompt).ids, END, ASSISTANT]
    return tokenizer.decode(runner.greedy(ids, min(limit, CONTEXT - len(ids))))


def accuracies(runner: Runner, tokenizer: Tokenizer, count: int, seed: int) -> dict[str, tuple[int, int]]:
    """Right and asked for each task; a story is right when it is about what was asked and ends by itself."""
    rng = random.Random(seed)
    digits = range(10)
    cases = {
        "addition, all sums": [(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in digits for b in digits],
        "addition, held out": [
            (prompt, f"{a} plus {b} is {a + b}.")
            for text in ADD
            for a in digits
            for b in digits
            if is_held_out(prompt := text.format(a=a, b=b))
        ],
        "counting from 1, all": [
            (text.format(n=n), ", ".join(map(str, range(1, n + 1))) + ".") for text in COUNT[:1] for n in range(2, COUNT_TO + 1)
        ],
    }
    cases |= {
        f"{task}, held out": [draw(task, rng, held_out=True) for _ in range(count)] for task in ("counting", "copying", "recall")
    }
    right = {
        task: (sum(ask(runner, tokenizer, prompt) == answer for prompt, answer in pairs), len(pairs))
        for task, pairs in cases.items()
    }
    requests = [draw("story", rng, held_out=True)[0] for _ in range(count // 3)]
    right["stories, held out"] = (sum(is_about(ask(runner, tokenizer, prompt, 460), prompt) for prompt in requests), len(requests))
    return right


def is_about(text: str, prompt: str) -> bool:
    """Whether a story has 80 to 200 words, ends with a sentence, and has the names and animals of its request."""
    asked = [word for word in re.findall(r"\w+", prompt) if word in NAMES or word in HOMES]
    return 80 <= len(text.split()) <= 200 and text.endswith(".") and all(re.search(rf"\b{word}\b", text) for word in asked)


def losses(runner: Runner, tokenizer: Tokenizer, count: int, seed: int) -> dict[str, float]:
    """Nats per token of new stories and bits per byte of them; nats per token of held-out answers to short tasks."""
    rng = random.Random(seed)
    nats, tokens, length = 0.0, 0, 0
    for _ in range(count):
        text, _ = story(rng)
        ids = [*tokenizer.encode(text).ids, END_OF_TEXT]
        nats, tokens, length = nats + cost(runner, ids, 1), tokens + len(ids) - 1, length + len(text.encode())
    answer_nats, answer_tokens = 0.0, 0
    for _ in range(count):
        prompt, answer = draw(rng.choice(["addition", "counting", "copying", "recall"]), rng, held_out=True)
        ask_ids, ids = [USER, *tokenizer.encode(prompt).ids, END, ASSISTANT], [*tokenizer.encode(answer).ids, END]
        answer_nats, answer_tokens = answer_nats + cost(runner, ask_ids + ids, len(ask_ids)), answer_tokens + len(ids)
    return {
        "stories, nats per token": nats / tokens,
        "stories, bits per byte": nats / np.log(2) / length,
        "answers, nats per token": answer_nats / answer_tokens,
    }


def cost(runner: Runner, ids: list[int], first: int) -> float:
    """Nats of ids from the index first on."""
    logits = runner.run(np.array([ids[:-1]], np.int64))[0][0].astype(np.float64)[first - 1 :]
    highest = logits.max(axis=1, keepdims=True)
    chances = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    return -chances[np.arange(len(chances)), ids[first:]].sum()
