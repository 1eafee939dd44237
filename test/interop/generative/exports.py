"""Exports a family's model with the tools that people use: Optimum, ONNX Runtime's quantizer, ONNX Runtime GenAI's
builder.

make_families.py calls it. Each function writes one directory, the graph and the files beside it, laid out as its tool
or the repositories on Hugging Face have it.
"""

import contextlib
import io
import shutil
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime_genai.models import builder
from optimum.exporters.onnx import main_export

TASK = "text-generation-with-past"


def export(source: Path, name: str, target: Path) -> None:
    """Writes the export of that name ("optimum-fp32", "genai-int4", ...) into target. The tools' own talk is kept back."""
    tool, kind = name.split("-")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if tool == "genai":
            genai(source, kind, target)
        else:
            main_export(str(source), str(target), task=TASK, do_validation=False, device="cpu")
            LATER[kind](target)


def genai(source: Path, precision: str, target: Path) -> None:
    """The builder of ONNX Runtime GenAI, for its CPU provider."""
    builder.create_model("", str(source), str(target), precision, "cpu", str(target / "cache"), hf_token="false", hf_remote=False)
    shutil.rmtree(target / "cache", ignore_errors=True)


def into_onnx_folder(target: Path, name: str) -> Path:
    """As repositories for transformers.js have it: onnx/<name>."""
    (target / "onnx").mkdir()
    return (target / "model.onnx").rename(target / "onnx" / name)


def half(target: Path) -> None:
    """All weights, the cache and the logits in fp16."""
    file = into_onnx_folder(target, "model_fp16.onnx")
    onnx.save(convert_float_to_float16(onnx.load(file), keep_io_types=False), file)


def dynamic(target: Path) -> None:
    """Weights in int8, activations quantized as they come."""
    file = into_onnx_folder(target, "model_quantized.onnx")
    whole = file.rename(file.with_name("model.onnx"))
    quantize_dynamic(whole, file, weight_type=QuantType.QInt8)
    whole.unlink()


def external(target: Path) -> None:
    """Weights in a file of their own."""
    file = into_onnx_folder(target, "model.onnx")
    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)


LATER = {"fp32": lambda target: None, "fp16": half, "int8": dynamic, "external": external}
