"""What Python says that each exported model must answer: prompts, their tokens, and the 64 likeliest tokens after each.

make_families.py calls it. For graphs in fp32 that is PyTorch's answer; a graph of fewer bits is another model, so
ONNX Runtime in Python answers for it, one sequence at a time.
"""

import json
import random
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

NEW_TOKENS = 64
TEXTS = [
    "Once upon a time, there was a little fox.",
    "Hello",
    "The dog",
    "What is 3 plus 4?",
    "1, 2, 3, 4, 5,",
    "Mia and Tom walked to the old bridge near the river. It was cold, and the sky grew dark, but they were not afraid, "
    "because they were together.",
    "Caf\u00e9 na\u00efve \u2014 \u65e5\u672c\u8a9e \U0001f98a\U0001f600!",
    "  two  spaces\n\nand lines\t",
    "x",
    "I'm sure they've said: \"You'll see!\"",
]
RANDOM_LENGTHS = (1, 2, 7, 23, 60)
CHAT = [
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello. What shall we do?"},
    {"role": "user", "content": "Tell me a story about a fox."},
]


def torch_answers(source: Path, prompts: list[list[int]]) -> tuple[list[list[int]], float]:
    """Greedy tokens of transformers' own generation, and the least distance between the likeliest and the next."""
    model = AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager").eval()
    # The folder's own end tokens are set aside; in the answers they are tokens like others.
    model.generation_config.eos_token_id = None
    answers, least = [], float("inf")
    for ids in prompts:
        with torch.no_grad():
            found = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        first, second = torch.stack(found.logits)[:, 0].topk(2).values.unbind(-1)
        least = min(least, (first - second).min().item())
        answers.append(found.sequences[0, len(ids) :].tolist())
    return answers, least


def onnx_answers(directory: Path, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy tokens of an exported graph, whose inputs say what it wants."""
    file = next(iter(sorted(directory.glob("**/*.onnx"))))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
    floats = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    empty = {
        value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), floats[value.type])
        for value in inputs
        if "past" in value.name
    }
    names = {value.name for value in inputs}
    answers = []
    for prompt in prompts:
        past, ids, length, answer = empty, prompt, 0, []
        while len(answer) < NEW_TOKENS:
            given = {
                "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, length + len(ids)), np.int64),
                "position_ids": np.arange(length, length + len(ids), dtype=np.int64)[None],
                **past,
            }
            results = dict(zip(outputs, session.run(outputs, {name: given[name] for name in names}), strict=True))
            past = {name: results[name.replace("past_key_values", "present")] for name in empty}
            length += len(ids)
            ids = [int(results["logits"][0, -1].argmax())]
            answer += ids
        answers.append(answer)
    return answers


def prompts_of(tokenizer: PreTrainedTokenizerBase) -> list[dict]:
    """Texts with their tokens, and tokens drawn at random that come from no text."""
    rng = random.Random(4)
    found = [{"text": text, "ids": tokenizer(text).input_ids} for text in TEXTS]
    return found + [{"text": None, "ids": [rng.randrange(len(tokenizer)) for _ in range(length)]} for length in RANDOM_LENGTHS]


def write_expected(directory: Path, head: dict, prompts: list[dict], answers: list[list[int]]) -> None:
    """expected.json: for each prompt its text (or null), ids, greedy tokens, their text alone and as what follows the prompt's."""
    tokenizer = AutoTokenizer.from_pretrained(directory)

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True)

    cases = []
    for prompt, answer in zip(prompts, answers, strict=True):
        before, whole = decode(prompt["ids"]), decode(prompt["ids"] + answer)
        cases.append(
            prompt
            | {
                "greedy": answer,
                "greedy_text": decode(answer),
                "continuation": whole[len(before) :] if whole.startswith(before) else None,
            }
        )
    chat = None
    if tokenizer.chat_template is not None:
        text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
        chat = {"messages": CHAT, "text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids}
    content = head | {"new_tokens": NEW_TOKENS, "cases": cases, "chat": chat}
    (directory / "expected.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
