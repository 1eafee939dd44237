"""Makes models/stories: a small language model that tells stories and answers short questions, as Hugging Face's exports
are laid out.

It is trained on what stories_corpus.py and stories_tasks.py write, and on nothing else. onnx/model.onnx is of plain
operators in fp32, onnx/model_quantized.onnx of GroupQueryAttention with weights of 8 bits. Both graphs are compared
with PyTorch and with each other, and the script stops when they differ or answer too few of the prompts that were not
trained on.
Run: OMP_NUM_THREADS=1 python models/make_stories.py [--steps 3200] [--minutes 60] [--weights weights.npz] [--more earlier.npz]
The weights differ with the build of PyTorch, the number of threads and the processor; --weights keeps them, so that
all after training can run again.
"""

import argparse
import logging
import random
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from json_file import write_json
from stories_corpus import story
from stories_graph import Shape, build
from stories_measures import Runner, accuracies, ask, losses
from stories_tokenizer import CHAT_TEMPLATE, SPECIAL, train_tokenizer
from stories_training import Decoder, train

MODEL_DIR = Path(__file__).resolve().parent / "stories"
SHAPE = Shape()
SEED = 5
STEPS, MINUTES = 3200, 600.0
BITS, BLOCK = 8, 32
MEASURED_SEED, MEASURED = 1000003, 200
CLOSE = 1e-3
REQUIRED = {
    "addition, all sums": 1.0,
    "counting from 1, all": 1.0,
    "copying, held out": 0.8,
    "recall, held out": 0.45,
    "stories, held out": 0.9,
}


def main() -> None:
    """Trains, or reads what was trained; exports, compares, measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="end the training after this time, however many steps that is"
    )
    parser.add_argument("--weights", type=Path, help="trained weights: read if the file exists, else written")
    parser.add_argument("--more", type=Path, help="trained weights to go on from, with another seed's texts")
    options = parser.parse_args()
    tokenizer = train_tokenizer(SHAPE.vocab)
    if options.weights and options.weights.exists():
        weights = dict(np.load(options.weights))
    else:
        trained = dict(np.load(options.more)) if options.more else None
        seed = SEED + 1 if trained else SEED
        weights = train(tokenizer, SHAPE, options.steps, options.minutes, seed, trained).weights()
        if options.weights:
            np.savez(options.weights, **weights)
    (MODEL_DIR / "onnx").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(MODEL_DIR / "tokenizer.json"))
    write_settings()
    plain, fused = build(weights, SHAPE, fused=False), build(weights, SHAPE, fused=True)
    paths = {"plain": MODEL_DIR / "onnx" / "model.onnx", "8 bits": MODEL_DIR / "onnx" / "model_quantized.onnx"}
    onnx.save(plain, paths["plain"])
    onnx.save(quantize(fused), paths["8 bits"])
    runners = {name: Runner(path) for name, path in paths.items()}
    compare(weights, runners["plain"], Runner(fused.SerializeToString()), runners["8 bits"], tokenizer)
    for name, runner in runners.items():
        report(name, runner, tokenizer, paths[name])


def write_settings() -> None:
    """The JSON files that transformers writes beside a model."""
    ends = {"bos_token_id": 0, "eos_token_id": [0, SPECIAL.index("<|end|>")], "pad_token_id": 0}
    write_json(
        MODEL_DIR / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": SHAPE.vocab,
            "hidden_size": SHAPE.width,
            "intermediate_size": SHAPE.ffn,
            "num_hidden_layers": SHAPE.layers,
            "num_attention_heads": SHAPE.heads,
            "num_key_value_heads": SHAPE.kv_heads,
            "head_dim": SHAPE.head,
            "hidden_act": "silu",
            "max_position_embeddings": SHAPE.context,
            "rms_norm_eps": SHAPE.epsilon,
            "rope_theta": SHAPE.theta,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "use_cache": True,
            **ends,
        },
    )
    # What is likelier than 0.9 is said for certain, so answers stay right while stories vary.
    write_json(
        MODEL_DIR / "generation_config.json",
        {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "max_length": SHAPE.context, **ends},
    )
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|end|>", "pad_token": "<|endoftext|>"}
    write_json(MODEL_DIR / "special_tokens_map.json", names | {"additional_special_tokens": SPECIAL[1:4]})
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    write_json(
        MODEL_DIR / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": SHAPE.context,
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": {str(token): {"content": text, **flags} for token, text in enumerate(SPECIAL)},
            "additional_special_tokens": SPECIAL[1:4],
            **names,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """All matrices in 8 bits, the last one too, for which it leaves the embedding and has a copy of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    turn = next(node for node in graph.node if node.name == "lm_head/weight")
    table = next(value for value in graph.initializer if value.name == turn.input[0])
    turned = onnx.numpy_helper.from_array(np.ascontiguousarray(onnx.numpy_helper.to_array(table).T), "lm_head.weight")
    graph.initializer.append(turned)
    graph.node.remove(turn)
    last = next(node for node in graph.node if node.name == "logits")
    last.input[1], last.name = turned.name, "lm_head"
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(copy, bits=BITS, block_size=BLOCK, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    return quantizer.model.model


def compare(weights: dict[str, np.ndarray], plain: Runner, fused: Runner, small: Runner, tokenizer) -> None:
    """Largest differences of logits from PyTorch, of the graphs, token by token, in padded batches; how often 8 bits agree."""
    model = Decoder(SHAPE)
    model.load_state_dict(
        {f"table.{name.replace('.', '/')}": torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    rng = random.Random(MEASURED_SEED)
    texts = [tokenizer.encode(story(rng)[0]).ids for _ in range(20)]
    worst = dict.fromkeys(
        [
            "plain from PyTorch",
            "fused from plain",
            "plain step by step",
            "fused step by step",
            "plain in company",
            "fused in company",
        ],
        0.0,
    )

    def note(name: str, one: np.ndarray, other: np.ndarray) -> None:
        worst[name] = max(worst[name], float(np.abs(one - other).max()))

    same = total = 0
    whole = []
    for text in texts:
        ids = np.array([text], np.int64)
        with torch.no_grad():
            wanted = model(torch.from_numpy(ids)).numpy()
        logits, ours = plain.run(ids)[0], fused.run(ids)[0]
        note("plain from PyTorch", logits, wanted)
        note("fused from plain", ours, logits)
        same, total = same + int((small.run(ids)[0].argmax(-1) == logits.argmax(-1)).sum()), total + logits.shape[1]
        whole.append(logits[0])
        for name, runner in (("plain step by step", plain), ("fused step by step", fused)):
            past = runner.run(ids[:, :9])[1]
            for at in range(9, 40):
                step, past = runner.run(ids[:, at : at + 1], past)
                note(name, step[0, 0], logits[0, at])
    for name, difference in in_company(texts, whole, plain, fused).items():
        worst[name] = difference
    for name, difference in worst.items():
        print(f"{name}: {difference:.1e}")
    print(f"8 bits choose the same token as fp32: {same} of {total}")
    if max(worst.values()) > CLOSE or same < 0.98 * total:
        raise SystemExit("the graphs differ too much")


def in_company(texts: list[list[int]], whole: list[np.ndarray], plain: Runner, fused: Runner) -> dict[str, float]:
    """A step of rows of different length at once, in the two layouts servers use: gaps before the new token, or none."""
    rows = [9, 30, 17, 44]
    longest = max(rows)
    ids = np.array([[texts[row][length]] for row, length in enumerate(rows)], np.int64)
    positions = np.array([[length] for length in rows], np.int64)
    worst = {}
    for name, runner in (("plain in company", plain), ("fused in company", fused)):
        slots = {key: np.zeros((len(rows), heads, longest, size), np.float32) for key, (heads, size) in runner.cache.items()}
        for row, length in enumerate(rows):
            for key, value in runner.run(np.array([texts[row][:length]], np.int64))[1].items():
                slots[key][row, :, :length] = value[0]
        mask = np.array(
            [
                [1] * length + [0] * (longest - length) + [1] if runner is plain else [1] * (length + 1) + [0] * (longest - length)
                for length in rows
            ],
            np.int64,
        )
        logits = runner.run(ids, slots, mask, positions)[0]
        worst[name] = max(float(np.abs(logits[row, 0] - whole[row][length]).max()) for row, length in enumerate(rows))
    return worst


def report(name: str, runner: Runner, tokenizer, path: Path) -> None:
    """Prints size, losses, accuracies and samples of a graph; stops where too few answers are right."""
    print(f"\n{name}: {path.stat().st_size} bytes")
    for key, value in losses(runner, tokenizer, MEASURED, MEASURED_SEED).items():
        print(f"  {key}: {value:.4f}")
    found = accuracies(runner, tokenizer, MEASURED, MEASURED_SEED)
    for task, (right, count) in found.items():
        print(f"  {task}: {right} of {count}")
    for prompt in ("Tell me a story about a fox.", "What is 3 plus 4?", "Count to 7."):
        print(f"  {prompt} -> {ask(runner, tokenizer, prompt, 400)}")
    low = [task for task, least in REQUIRED.items() if found[task][0] < least * found[task][1]]
    if low:
        raise SystemExit(f"{name}: too few right of {', '.join(low)}")


if __name__ == "__main__":
    main()
