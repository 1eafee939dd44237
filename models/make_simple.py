"""Makes models/simple: INPUT0 and INPUT1, INT32 [16], to their sum OUTPUT0 and difference OUTPUT1.

The names, types and shapes are those the client examples of Triton expect of the model they call "simple".
Run: python models/make_simple.py
"""

from pathlib import Path

from onnx import TensorProto, checker, helper, save

MODEL_DIR = Path(__file__).resolve().parent / "simple"

CONFIG = """\
name: "simple"
backend: "onnxruntime"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
dynamic_batching { }
"""


def main() -> None:
    def tensor(name: str):
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", 16])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        "simple",
        [tensor("INPUT0"), tensor("INPUT1")],
        [tensor("OUTPUT0"), tensor("OUTPUT1")],
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="tensorwire"
    )
    checker.check_model(model, full_check=True)
    (MODEL_DIR / "1").mkdir(parents=True, exist_ok=True)
    save(model, MODEL_DIR / "1" / "model.onnx")
    (MODEL_DIR / "config.pbtxt").write_text(CONFIG)
    print(f"simple: {(MODEL_DIR / '1' / 'model.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
