"""Makes models/image-classification: a small convolutional network that takes a picture of any height and width.

Data: ten photographs that scikit-image and scikit-learn bundle under free licences (PICTURES says which and whose). The
network learns to tell from a patch what it was cut from. A quarter of the named part of each picture, along one side, is
held out: no training patch touches it, and patches from it give the accuracy that is printed, measured through the
exported graph in ONNX Runtime. The script stops when that is below 90 %.
Run: python models/make_image_classification.py
"""

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

sys.dont_write_bytecode = True  # this folder is a model repository: a __pycache__ in it would be listed as a model

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, save
from PIL import Image, ImageEnhance

from json_file import write_json

MODEL_DIR = Path(__file__).resolve().parent / "image-classification"
SEED = 7
CHANNELS = [3, 12, 24, 48, 64]
STEPS, BATCH, LEARNING_RATE = 2500, 48, 3e-3
TRAIN_SIZES = [32, 64, 96, 96]
TEST_SIZES = [16, 32, 64, 96, 224]
TEST_PATCHES = 100
SMALLEST_CUT, LARGEST_CUT = 48, 256
SIZE = 96
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
REQUIRED_ACCURACY = 0.9
SAMPLE_LABEL = "cat"


class Picture(NamedTuple):
    label: str
    package: str
    file: str
    part: tuple[float, float, float, float]
    """Left, top, right, bottom of what the label names, as fractions of the picture."""
    held: str
    """The side of that part whose quarter is held out."""


PICTURES = [
    Picture("brick", "skimage", "data/brick.png", (0, 0, 1, 1), "right"),  # CC0, CC0Textures
    Picture("cat", "skimage", "data/chelsea.png", (0, 0, 0.86, 1), "right"),  # CC0, Stefan van der Walt
    Picture("coffee", "skimage", "data/coffee.png", (0.1, 0.02, 0.82, 1), "bottom"),  # CC0, Rachel Michetti
    Picture("flower", "sklearn", "datasets/images/flower.jpg", (0.26, 0.19, 0.7, 0.85), "right"),  # CC BY 2.0, vultilion
    Picture("grass", "skimage", "data/grass.png", (0, 0, 1, 1), "right"),  # CC0, linolafett
    Picture("gravel", "skimage", "data/gravel.png", (0, 0, 1, 1), "right"),  # CC0, CC0Textures
    Picture("handwriting", "skimage", "data/text.png", (0, 0, 1, 1), "right"),  # public domain
    Picture("retina", "skimage", "data/retina.jpg", (0.08, 0.08, 0.92, 0.92), "right"),  # CC0, Mikael Häggström
    Picture("stars", "skimage", "data/hubble_deep_field.jpg", (0, 0, 1, 1), "right"),  # public domain, NASA
    Picture("temple", "sklearn", "datasets/images/china.jpg", (0.14, 0.1, 0.58, 0.9), "bottom"),  # CC BY 2.0, danielbuechele
]
LABELS = [picture.label for picture in PICTURES]

# In Hugging Face's words; any size is fine for the network, a common one lets pictures share batches.
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}
CONFIG = {
    "architectures": ["ConvNetForImageClassification"],
    "model_type": "convnet",
    "num_channels": 3,
    "hidden_sizes": CHANNELS[1:],
    "id2label": {str(i): label for i, label in enumerate(LABELS)},
    "label2id": {label: i for i, label in enumerate(LABELS)},
}


def opened(picture: Picture) -> Image.Image:
    """The named part, scaled so that the whole picture's shorter edge has at most 512 pixels."""
    folder = Path(importlib.util.find_spec(picture.package).origin).parent
    whole = Image.open(folder / picture.file).convert("RGB")
    whole.thumbnail((512 * max(whole.size) / min(whole.size),) * 2, Image.Resampling.BICUBIC)
    width, height = whole.size
    left, top, right, bottom = picture.part
    return whole.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def split(picture: Picture) -> tuple[Image.Image, Image.Image]:
    """What is trained on, what is held out."""
    part = opened(picture)
    width, height = part.size
    if picture.held == "right":
        edge = width * 3 // 4
        return part.crop((0, 0, edge, height)), part.crop((edge, 0, width, height))
    edge = height * 3 // 4
    return part.crop((0, 0, width, edge)), part.crop((0, edge, width, height))


def cut(area: Image.Image, random: np.random.Generator) -> Image.Image:
    """A square patch of the area, SMALLEST_CUT to LARGEST_CUT wide."""
    side = int(np.exp(random.uniform(np.log(SMALLEST_CUT), np.log(min(*area.size, LARGEST_CUT)))))
    left, top = (int(random.integers(0, length - side + 1)) for length in area.size)
    return area.crop((left, top, left + side, top + side))


def varied(patch: Image.Image, random: np.random.Generator) -> Image.Image:
    """Four of the pictures are grey, so colour must not give the others away; light differs from camera to camera."""
    if random.random() < 0.5:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patch = ImageEnhance.Color(patch).enhance(random.choice([0.0, random.uniform(0, 1), 1.0]))
    patch = ImageEnhance.Brightness(patch).enhance(random.uniform(0.7, 1.3))
    return ImageEnhance.Contrast(patch).enhance(random.uniform(0.7, 1.3))


def tensor(patches: list[Image.Image], size: int) -> np.ndarray:
    pixels = np.stack([np.asarray(p.resize((size, size), Image.Resampling.BILINEAR), np.float32) for p in patches])
    return ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)


def forward(weights, x):
    """Each layer halves height and width; what is left of the place is averaged, so every size gives one row."""
    for w, b in weights[:-1]:
        x = jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NCHW", "OIHW", "NCHW"))
        x = jax.nn.relu(x + b[None, :, None, None])
    w, b = weights[-1]
    return x.mean((2, 3)) @ w + b


def loss(weights, x, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(forward(weights, x)), labels[:, None], 1).mean()


@jax.jit
def step(weights, first, second, number, rate, x, labels):
    """One step of Adam."""
    gradients = jax.grad(loss)(weights, x, labels)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def moved(w, m, v):
        return w - rate * (m / (1 - 0.9**number)) / (jnp.sqrt(v / (1 - 0.999**number)) + 1e-8)

    return jax.tree.map(moved, weights, first, second), first, second


def train(areas: list[Image.Image]):
    random = np.random.default_rng(SEED)
    weights = []
    for i, o in zip(CHANNELS, CHANNELS[1:]):
        weights.append((jnp.asarray(random.normal(0, np.sqrt(2 / (9 * i)), (o, i, 3, 3)), jnp.float32), jnp.zeros(o)))
    weights.append((jnp.asarray(random.normal(0, 0.05, (CHANNELS[-1], len(LABELS))), jnp.float32), jnp.zeros(len(LABELS))))
    first = second = jax.tree.map(jnp.zeros_like, weights)
    for number in range(1, STEPS + 1):
        labels = random.integers(0, len(LABELS), BATCH)
        patches = [varied(cut(areas[label], random), random) for label in labels]
        x = tensor(patches, TRAIN_SIZES[number % len(TRAIN_SIZES)])
        rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * number / STEPS))
        weights, first, second = step(weights, first, second, float(number), rate, x, labels)
    return [(np.asarray(w), np.asarray(b)) for w, b in weights]


def export(weights):
    initializers, nodes, x = [], [], "pixel_values"
    for i, (w, b) in enumerate(weights):
        initializers += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        if i < len(weights) - 1:
            nodes.append(helper.make_node("Conv", [x, f"w{i}", f"b{i}"], [f"z{i}"], strides=[2, 2], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"a{i}"]))
            x = f"a{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"], axis=1))
    nodes.append(helper.make_node("Gemm", ["features", f"w{i}", f"b{i}"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "image-classification",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch_size", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", len(LABELS)])],
        initializers,
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="tensorwire"
    )
    checker.check_model(model, full_check=True)
    return model


def arithmetic(size: int) -> int:
    """Multiplications for one picture of size x size."""
    total = 0
    for i, o in zip(CHANNELS, CHANNELS[1:]):
        size = (size + 1) // 2
        total += size * size * i * o * 9
    return total


def check(model, areas: list[Image.Image]) -> None:
    """Prints the accuracy on held-out patches for each size they are brought to; stops when one that is required is low."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(SEED)
    patches = [[cut(area, random) for _ in range(TEST_PATCHES)] for area in areas]
    for size in TEST_SIZES:
        rights = []
        for label, some in enumerate(patches):
            logits = session.run(["logits"], {"pixel_values": tensor(some, size)})[0]
            rights.append(int((logits.argmax(1) == label).sum()))
        accuracy = sum(rights) / (len(LABELS) * TEST_PATCHES)
        each = ", ".join(f"{label} {right}" for label, right in zip(LABELS, rights))
        print(f"image-classification: held out, patches as {size} x {size}: accuracy {accuracy:.3f} (of {TEST_PATCHES} each: {each})")
        if size == SIZE and accuracy < REQUIRED_ACCURACY:
            raise SystemExit(f"held-out accuracy {accuracy:.3f} is below {REQUIRED_ACCURACY}")


def main() -> None:
    areas = [split(picture) for picture in PICTURES]
    model = export(train([trained for trained, _ in areas]))
    check(model, [held for _, held in areas])

    (MODEL_DIR / "onnx").mkdir(parents=True, exist_ok=True)
    save(model, MODEL_DIR / "onnx" / "model.onnx")
    write_json(MODEL_DIR / "config.json", CONFIG)
    write_json(MODEL_DIR / "preprocessor_config.json", PREPROCESSOR)
    sample = areas[LABELS.index(SAMPLE_LABEL)][1]
    sample.save(MODEL_DIR / "sample.jpg", "JPEG", quality=85)
    size = (MODEL_DIR / "onnx" / "model.onnx").stat().st_size
    print(f"image-classification: {size} bytes, {arithmetic(224) / 1e6:.1f} million multiplications at 224 x 224")


if __name__ == "__main__":
    main()
