"""Makes models/digits: an image classifier for handwritten digits, and digits it has not seen as ready requests and pictures.

Data: the digits that come with scikit-learn (1797 images of 8 x 8, grey values 0 to 16). A quarter, drawn by a fixed
seed with all classes in proportion, is held out: it takes no part in training and gives the accuracies that are printed,
as tensors and as pictures of other sizes, dark on light and light on dark, PNG and JPEG. All are measured on the exported
graph itself; the script stops when one is too low.
Run: python models/make_digits.py
"""

import base64
import io
import json
import textwrap
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, save
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

MODEL_DIR = Path(__file__).resolve().parent / "digits"
SEED = 7
HIDDEN = (256, 128)
TENSOR_COPIES, DRAWN_COPIES = 3, 40
EPOCHS = 30
MAX_GREY = 16.0
REQUIRED_ACCURACY = 0.98
REQUIRED_PICTURE_ACCURACY = 0.92
PICTURE_SIZES = [(8, 8), (28, 28), (64, 64), (200, 300), (300, 200)]
SAMPLE_LABEL = 7
PAPER_LABEL = 3
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

# In Hugging Face's words. The tensor has one channel, so a picture becomes grey; resample 2 is bilinear.
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 8, "width": 8},
    "resample": 2,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": MAX_GREY / 255,
    "do_normalize": False,
}


def stretched(images: np.ndarray) -> np.ndarray:
    """What the graph does first, in numpy: each image's darkest value becomes 0 and its brightest 1."""
    low = images.min(axis=1, keepdims=True)
    return (images - low) / np.maximum(images.max(axis=1, keepdims=True) - low, 1)


def with_shifts(images: np.ndarray) -> np.ndarray:
    """The images and their copies moved by one pixel up, down, left and right: few writers, so place must not matter."""
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return np.concatenate([padded[:, y : y + 8, x : x + 8].reshape(-1, 64) for y, x in moves])


def as_drawn(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One digit as a picture may show it, again 8 x 8: on a larger sheet, tilted, squeezed, thicker or thinner, noisy."""
    fine = Image.fromarray(np.uint8(image.reshape(8, 8) / MAX_GREY * 255)).resize((48, 48), Image.Resampling.BICUBIC)
    angle, slant = np.radians(random.uniform(-12, 12)), random.uniform(-0.15, 0.15)
    size = random.uniform(0.5, 1.1) * np.exp(random.uniform(-0.35, 0.35, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, slant], [0, 1]] / size
    room = np.maximum(64 - 48 * size, 4) * 0.4
    middle = 24 - turn @ (32 + random.uniform(-0.5, 0.5, 2) * room)
    numbers = (turn[0, 0], turn[0, 1], middle[0], turn[1, 0], turn[1, 1], middle[1])
    sheet = fine.transform((64, 64), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)
    small = np.asarray(sheet.resize((8, 8), Image.Resampling.BILINEAR), np.float32).reshape(64)
    ink = (small / max(small.max(), 1)) ** random.uniform(0.6, 1.6)
    return np.clip(ink + random.normal(0, random.uniform(0, 0.05), 64), 0, 1) * MAX_GREY


def train(images: np.ndarray, labels: np.ndarray) -> MLPClassifier:
    random = np.random.default_rng(SEED)
    drawn = [np.stack([as_drawn(image, random) for image in images]) for _ in range(DRAWN_COPIES)]
    seen = np.concatenate([with_shifts(images)] * TENSOR_COPIES + drawn)
    classifier = MLPClassifier(
        hidden_layer_sizes=HIDDEN,
        alpha=1e-3,
        batch_size=256,
        max_iter=EPOCHS,
        tol=0.0,
        n_iter_no_change=EPOCHS,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        # The number of epochs is fixed on purpose, so "not converged yet" says nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(stretched(seen).astype(np.float32), np.tile(labels, len(seen) // len(labels)))


def export(classifier: MLPClassifier):
    """The classifier as ONNX. The graph evens out pictures first: it stretches the grey values to 0..1, and where the
    border is nearer to 1, as with dark ink on light paper, it turns them over. Tensors of 0 (paper) to 16 (ink) stay."""
    border = np.ones((8, 8), np.float32)
    border[1:-1, 1:-1] = 0
    initializers = [
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(np.float32(0.5), "half"),
        numpy_helper.from_array((border / border.sum()).reshape(64, 1), "border"),
    ]
    nodes = [
        helper.make_node("ReduceMin", ["image"], ["low"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["image"], ["high"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["high", "low"], ["range"]),
        helper.make_node("Max", ["range", "one"], ["divisor"]),
        helper.make_node("Sub", ["image", "low"], ["lowered"]),
        helper.make_node("Div", ["lowered", "divisor"], ["grey"]),
        helper.make_node("MatMul", ["grey", "border"], ["edge"]),
        helper.make_node("Greater", ["edge", "half"], ["is_dark_on_light"]),
        helper.make_node("Sub", ["one", "grey"], ["turned"]),
        helper.make_node("Where", ["is_dark_on_light", "turned", "grey"], ["a0"]),
    ]
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


def picture(image: np.ndarray, width: int, height: int, *, dark_on_light: bool) -> Image.Image:
    """A digit on a sheet of that size, in its middle, with a margin of a seventh of the shorter edge; 8 x 8 is the digit alone."""
    ink = Image.fromarray(np.uint8(np.round(image.reshape(8, 8) / MAX_GREY * 255)))
    side = 8 if (width, height) == (8, 8) else round(min(width, height) * 5 / 7)
    sheet = Image.new("L", (width, height))
    sheet.paste(ink.resize((side, side), Image.Resampling.BICUBIC), ((width - side) // 2, (height - side) // 2))
    return Image.fromarray(255 - np.asarray(sheet)) if dark_on_light else sheet


def encoded(sheet: Image.Image, file_format: str) -> bytes:
    file = io.BytesIO()
    sheet.save(file, file_format, **({"quality": 75} if file_format == "JPEG" else {}))
    return file.getvalue()


def preprocessed(file: bytes) -> np.ndarray:
    """A picture's file as preprocessor_config.json says."""
    size = (PREPROCESSOR["size"]["width"], PREPROCESSOR["size"]["height"])
    grey = Image.open(io.BytesIO(file)).convert("L").resize(size, Image.Resampling(PREPROCESSOR["resample"]))
    return np.asarray(grey, np.float32).reshape(64) * np.float32(PREPROCESSOR["rescale_factor"])


def check(session: onnxruntime.InferenceSession, images: np.ndarray, labels: np.ndarray) -> None:
    """Prints the held-out accuracies, as tensors and as pictures; stops below what is required."""

    def accuracy(name: str, tensors: np.ndarray, required: float) -> None:
        predicted = session.run(["label"], {"image": tensors})[0][:, 0]
        right = int((predicted == labels).sum())
        print(f"digits: held out, {name}: accuracy {right / len(labels):.4f} ({right} of {len(labels)} right)")
        if right / len(labels) < required:
            raise SystemExit(f"accuracy of {name} is below {required}")

    accuracy("tensors", images, REQUIRED_ACCURACY)
    for width, height in PICTURE_SIZES:
        for file_format in ["PNG", "JPEG"]:
            for dark_on_light in [False, True]:
                files = [encoded(picture(i, width, height, dark_on_light=dark_on_light), file_format) for i in images]
                ink = "dark on light" if dark_on_light else "light on dark"
                tensors = np.stack([preprocessed(file) for file in files])
                accuracy(f"{file_format} {width} x {height}, {ink}", tensors, REQUIRED_PICTURE_ACCURACY)


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
    print(f"digits: {len(train_labels)} training images, {len(held_labels)} held out")
    model = export(train(train_images, train_labels))
    check(onnxruntime.InferenceSession(model.SerializeToString()), held_images, held_labels)

    (MODEL_DIR / "1").mkdir(parents=True, exist_ok=True)
    save(model, MODEL_DIR / "1" / "model.onnx")
    (MODEL_DIR / "config.pbtxt").write_text(CONFIG)
    (MODEL_DIR / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (MODEL_DIR / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    sample = held_images[np.flatnonzero(held_labels == SAMPLE_LABEL)[0]]
    write_sample(sample, SAMPLE_LABEL)
    (MODEL_DIR / "sample.png").write_bytes(encoded(picture(sample, 64, 64, dark_on_light=False), "PNG"))
    paper = held_images[np.flatnonzero(held_labels == PAPER_LABEL)[0]]
    (MODEL_DIR / "sample.jpg").write_bytes(encoded(picture(paper, 200, 300, dark_on_light=True), "JPEG"))
    print(f"digits: {(MODEL_DIR / '1' / 'model.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
