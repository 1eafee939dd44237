"""What every client of the suite sends: where the server is, and tensors that tell when an encoding changes them."""

import os

import numpy as np

GRPC = os.environ["TENSORWIRE_GRPC"]
HTTP = os.environ["TENSORWIRE_HTTP"]
PROTO_DIR = os.environ["TENSORWIRE_PROTO_DIR"]

STRINGS = [b"", b"a", "é".encode(), "日本語".encode(), "😀".encode(), b'"quoted" \\ and\n\t', b"null", b"x" * 20_000]


def _whole(dtype):
    info = np.iinfo(dtype)
    middle = np.array([0, 1, info.max // 3, info.max // 2 + 1], dtype=dtype)
    return np.concatenate([middle, np.array([info.min, info.min + 1, info.max - 1, info.max], dtype=dtype)])


def _real(dtype):
    info = np.finfo(dtype)
    values = [0.0, -0.0, 1.1, -info.max, info.smallest_subnormal, np.inf, -np.inf, np.nan]
    return np.array(values, dtype=dtype)


#: Two rows of four elements (BYTES: eight strings) per datatype that the server has a model `identity_<datatype>` for.
TENSORS = {
    name: values.reshape(2, -1)
    for name, values in {
        "BOOL": np.array([0, 1, 1, 0, 0, 0, 1, 1], dtype=bool),
        "UINT8": _whole(np.uint8),
        "UINT16": _whole(np.uint16),
        "UINT32": _whole(np.uint32),
        "UINT64": _whole(np.uint64),
        "INT8": _whole(np.int8),
        "INT16": _whole(np.int16),
        "INT32": _whole(np.int32),
        "INT64": _whole(np.int64),
        "FP16": _real(np.float16),
        "FP32": _real(np.float32),
        "FP64": _real(np.float64),
        "BYTES": np.array(STRINGS, dtype=np.object_),
    }.items()
}


def same(left, right):
    """Equal shapes, types and bits; strings as bytes."""
    if left.shape != right.shape:
        return False
    if right.dtype == np.object_:
        encode = lambda text: text.encode() if isinstance(text, str) else bytes(text)  # noqa: E731
        return [encode(text) for text in left.ravel()] == [encode(text) for text in right.ravel()]
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


#: A held-out seven for the model `digits`.
SEVEN = np.array(
    [
        [0, 0, 3, 8, 12, 15, 16, 2],
        [0, 0, 12, 14, 10, 13, 15, 0],
        [0, 0, 1, 1, 2, 14, 6, 0],
        [0, 0, 2, 8, 13, 16, 8, 0],
        [0, 0, 9, 16, 16, 10, 5, 0],
        [0, 0, 1, 8, 12, 1, 0, 0],
        [0, 0, 0, 0, 14, 8, 0, 0],
        [0, 0, 0, 0, 2, 16, 5, 0],
    ],
    dtype=np.float32,
).reshape(1, 64)


def check_classes(test, top, tensors):
    """That `top`, the three likeliest classes of each image, says what `tensors`, the probabilities, say."""
    test.assertEqual(top.shape, (len(tensors), 3))
    names = "zero one two three four five six seven eight nine".split()
    for row, probabilities in zip(top, tensors):
        order = np.argsort(-probabilities, kind="stable")[:3]
        expected = [f"{float(probabilities[i]):f}:{i}:{names[i]}" for i in order]
        test.assertEqual([text if isinstance(text, str) else text.decode() for text in row], expected)


def simple_pair(rows=1, start=0):
    """Inputs of the model `simple`."""
    first = np.arange(start, start + rows * 16, dtype=np.int32).reshape(rows, 16)
    return first, np.full((rows, 16), 3, dtype=np.int32)
