"""Makes models/digits: an image classifier for handwritten digits, and one digit it has not seen as a ready request.

Data: the digits that come with scikit-learn (1797 images of 8 x 8, grey values 0 to 16). A quarter, drawn by a fixed
seed with all classes in proportion, is held out: it takes no part in training and gives the accuracy that is printed.
The script stops when that accuracy, measured on the exported graph itself, is below 97 %.
Run: python models/make_digits.py
"""

import base64
import textwrap
import warnings
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

MODEL_DIR = Path(__file__).resolve().parent / "digits"
SEED = 7
EPOCHS = 60
MAX_GREY = 16.0
REQUIRED_ACCURACY = 0.97
SAMPLE_LABEL = 7
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

CONFIG = """\
name: "digits"
backend: "onnxruntime"
max_batch_size: 32
input [
  { name: "image" data_type: TYPE_FP32 dims: [ 64 ] }
]
output [
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" },
  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] }
]
dynamic_batching { }
"""


def with_shifts(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images and their copies moved by one pixel up, down, left and right: few writers, so place must not matter."""
    squares = images.reshape(-1, 8, 8)
    padded = np.pad(squares, ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    moved = [padded[:, y : y + 8, x : x + 8].reshape(-1, 64) for y, x in moves]
    return np.concatenate(moved), np.tile(labels, len(moves))


def train(images: np.ndarray, labels: np.ndarray) -> MLPClassifier:
    classifier = MLPClassifier(
        hidden_layer_sizes=(128, 64),
        alpha=1e-3,
        batch_size=64,
        max_iter=EPOCHS,
        tol=0.0,
        n_iter_no_change=EPOCHS,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        # The number of epochs is fixed on purpose, so "not converged yet" says nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(*with_shifts(images / MAX_GREY, labels))


def export(classifier: MLPClassifier):
    """The classifier as ONNX: the graph scales the grey values itself, so clients send pixels as they are."""
    initializers = [numpy_helper.from_array(np.float32(1 / MAX_GREY).reshape(()), "scale")]
    nodes = [helper.make_node("Mul", ["image", "scale"], ["a0"])]
    last = len(classifier.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(classifier.coefs_, classifier.intercepts_)):
        initializers.append(numpy_helper.from_array(weights.astype(np.float32), f"w{i}"))
        initializers.append(numpy_helper.from_array(bias.astype(np.float32), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [f"a{i}", f"w{i}", f"b{i}"], [f"z{i}"]))
        if i < last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"a{i + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"z{last}"], ["probabilities"], axis=-1))
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=-1, keepdims=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch", 1]),
        ],
        initializers,
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="tensorwire"
    )
    checker.check_model(model, full_check=True)
    return model


REST_SAMPLE = """\
{{
  "id": "{name}",
  "inputs": [
    {{
      "name": "image",
      "shape": [1, 64],
      "datatype": "FP32",
      "data": [
{greys}
      ]
    }}
  ]
}}
"""

GRPC_SAMPLE = """\
{{
  "model_name": "digits",
  "id": "{name}",
  "inputs": [{{ "name": "image", "shape": [1, 64], "datatype": "FP32" }}],
  "raw_input_contents": [
    "{raw}"
  ]
}}
"""


def write_sample(image: np.ndarray, label: int) -> None:
    """One held-out digit as a REST body (sample.json) and as a gRPC request for grpcurl (sample.grpc.json).

    By template and not by json.dumps: the files are laid out as the repository's formatter would, so that running this
    again changes nothing.
    """
    name = f"held-out {LABELS[label]}"
    greys = textwrap.fill(", ".join(str(int(grey)) for grey in image), 120, initial_indent=" " * 8, subsequent_indent=" " * 8)
    raw = base64.b64encode(image.astype("<f4").tobytes()).decode()
    (MODEL_DIR / "sample.json").write_text(REST_SAMPLE.format(name=name, greys=greys))
    (MODEL_DIR / "sample.grpc.json").write_text(GRPC_SAMPLE.format(name=name, raw=raw))


def main() -> None:
    digits = load_digits()
    train_images, held_images, train_labels, held_labels = train_test_split(
        digits.data.astype(np.float32), digits.target, test_size=0.25, stratify=digits.target, random_state=SEED
    )
    model = export(train(train_images, train_labels))

    predicted = ReferenceEvaluator(model).run(["label"], {"image": held_images})[0][:, 0]
    right = int((predicted == held_labels).sum())
    accuracy = right / len(held_labels)
    print(f"digits: {len(train_labels)} training images, {len(held_labels)} held out")
    print(f"digits: held-out accuracy {accuracy:.4f} ({right} of {len(held_labels)} right)")
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(f"held-out accuracy {accuracy:.4f} is below {REQUIRED_ACCURACY}")

    (MODEL_DIR / "1").mkdir(parents=True, exist_ok=True)
    save(model, MODEL_DIR / "1" / "model.onnx")
    (MODEL_DIR / "config.pbtxt").write_text(CONFIG)
    (MODEL_DIR / "labels.txt").write_text("\n".join(LABELS) + "\n")
    first = int(np.flatnonzero(held_labels == SAMPLE_LABEL)[0])
    write_sample(held_images[first], SAMPLE_LABEL)
    print(f"digits: {(MODEL_DIR / '1' / 'model.onnx').stat().st_size} bytes; the sample is classified as {predicted[first]}")


if __name__ == "__main__":
    main()
