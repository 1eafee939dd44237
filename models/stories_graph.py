"""Writes the weights of models/stories as ONNX graphs in the layout and with the names of Optimum's exports.

make_stories.py calls it. Two styles: plain operators with Concat for the cache and a mask made from attention_mask
and indices, and com.microsoft.GroupQueryAttention, which rotates, masks and appends itself. The embedding is stored
once: the last MatMul takes it transposed.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-style decoder."""

    vocab: int = 768
    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 352
    context: int = 512
    theta: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """Numbers per head."""
        return self.width // self.heads


def rotation(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [context, head / 2]."""
    frequency = shape.theta ** (-np.arange(0, shape.head, 2, dtype=np.float64) / shape.head)
    angle = np.arange(shape.context)[:, None] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


class Graph:
    """The nodes and constants of a graph that grows."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def const(self, name: str, value: np.ndarray) -> str:
        """Keeps a constant under a name."""
        self.constants[name] = value
        return name

    def ints(self, *values: int) -> str:
        """A vector of int64, kept once."""
        return self.const("ints_" + "_".join(str(value).replace("-", "m") for value in values), np.array(values, np.int64))

    def node(self, kind: str, inputs: list[str], name: str, domain: str = "", **attributes: object) -> str:
        """Adds a node of one output that bears the node's name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def norm(self, source: str, weight: np.ndarray, name: str, epsilon: float) -> str:
        """RMSNorm of primitive operators."""
        square = self.node("Mul", [source, source], f"{name}/square")
        mean = self.node("ReduceMean", [square], f"{name}/mean", axes=[-1], keepdims=1)
        safe = self.node("Add", [mean, self.const("epsilon", np.array(epsilon, np.float32))], f"{name}/safe")
        scale = self.node("Sqrt", [safe], f"{name}/sqrt")
        unit = self.node("Div", [source, scale], f"{name}/unit")
        return self.node("Mul", [unit, self.const(f"{name}.weight", weight)], name)

    def linear(self, source: str, weight: np.ndarray, name: str) -> str:
        """source times weight [out, in] transposed."""
        return self.node("MatMul", [source, self.const(f"{name}.weight", np.ascontiguousarray(weight.T))], name)


def build(weights: dict[str, np.ndarray], shape: Shape, fused: bool) -> onnx.ModelProto:
    """The whole decoder; weights are named as in transformers' LlamaForCausalLM. fused picks GroupQueryAttention."""
    graph = Graph()
    table = graph.const("model.embed_tokens.weight", weights["model.embed_tokens.weight"])
    hidden = graph.node("Gather", [table, "input_ids"], "model/embed_tokens")
    shared = gqa_lengths(graph, shape) if fused else mask_and_rotation(graph, shape)
    for index in range(shape.layers):
        source, name = f"model.layers.{index}", f"model/layers.{index}"
        part = {
            key: weights[f"{source}.{key}.weight"]
            for key in (
                "input_layernorm",
                "post_attention_layernorm",
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            )
        }
        x = graph.norm(hidden, part["input_layernorm"], f"{name}/input_layernorm", shape.epsilon)
        q, k, v = (graph.linear(x, part[f"self_attn.{which}_proj"], f"{name}/self_attn/{which}_proj") for which in "qkv")
        attend = fused_attention if fused else plain_attention
        x = attend(graph, shape, index, (q, k, v), shared)
        x = graph.linear(x, part["self_attn.o_proj"], f"{name}/self_attn/o_proj")
        hidden = graph.node("Add", [hidden, x], f"{name}/attended")
        x = graph.norm(hidden, part["post_attention_layernorm"], f"{name}/post_attention_layernorm", shape.epsilon)
        gate = graph.linear(x, part["mlp.gate_proj"], f"{name}/mlp/gate_proj")
        up = graph.linear(x, part["mlp.up_proj"], f"{name}/mlp/up_proj")
        gate = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{name}/mlp/sigmoid")], f"{name}/mlp/silu")
        x = graph.linear(graph.node("Mul", [gate, up], f"{name}/mlp/gated"), part["mlp.down_proj"], f"{name}/mlp/down_proj")
        hidden = graph.node("Add", [hidden, x], f"{name}/out")
    hidden = graph.norm(hidden, weights["model.norm.weight"], "model/norm", shape.epsilon)
    graph.node("MatMul", [hidden, graph.node("Transpose", [table], "lm_head/weight", perm=[1, 0])], "logits")
    return finish(graph, shape, fused)


def mask_and_rotation(graph: Graph, shape: Shape) -> tuple[str, ...]:
    """What the plain layers share: the additive mask [batch, 1, sequence, total], and cosines and sines by position_ids."""
    length = graph.node("Shape", ["input_ids"], "sequence_length", start=1, end=2)
    total = graph.node("Shape", ["attention_mask"], "total_length", start=1, end=2)
    past = graph.node("Sub", [total, length], "past_length")
    zero, one = graph.const("zero", np.array(0, np.int64)), graph.const("one", np.array(1, np.int64))
    keys = graph.node("Range", [zero, graph.node("Squeeze", [total], "total_scalar"), one], "key_index")
    rows = graph.node("Range", [zero, graph.node("Squeeze", [length], "sequence_scalar"), one], "row_index")
    rows = graph.node("Unsqueeze", [graph.node("Add", [rows, past], "query_index"), graph.ints(1)], "query_column")
    causal = graph.node("LessOrEqual", [keys, rows], "causal")
    given = graph.node("Cast", ["attention_mask"], "given", to=TensorProto.BOOL)
    given = graph.node("Unsqueeze", [given, graph.ints(1, 2)], "given_4d")
    allowed = graph.node("And", [graph.node("Unsqueeze", [causal, graph.ints(0, 1)], "causal_4d"), given], "allowed")
    lowest = graph.const("lowest", np.array(np.finfo(np.float32).min, np.float32))
    mask = graph.node("Where", [allowed, graph.const("nothing", np.array(0, np.float32)), lowest], "mask")
    halves = [np.concatenate([half, half], axis=1) for half in rotation(shape)]
    names = [graph.const(name, half) for name, half in zip(("cos_cache", "sin_cache"), halves, strict=True)]
    at = [graph.node("Gather", [name, "position_ids"], f"{name}/at") for name in names]
    return mask, *[graph.node("Unsqueeze", [name, graph.ints(1)], f"{name}/4d") for name in at]


def plain_attention(graph: Graph, shape: Shape, index: int, qkv: tuple[str, ...], shared: tuple[str, ...]) -> str:
    """Attention of primitive operators; the cache is what Concat gives."""
    mask, cos, sin = shared
    name = f"model/layers.{index}/self_attn"
    heads = []
    for which, source, count in zip("qkv", qkv, (shape.heads, shape.kv_heads, shape.kv_heads), strict=True):
        split = graph.node("Reshape", [source, graph.ints(0, 0, count, shape.head)], f"{name}/{which}/split")
        heads.append(graph.node("Transpose", [split], f"{name}/{which}/heads", perm=[0, 2, 1, 3]))
    q, k = (rotate(graph, shape, source, cos, sin, f"{name}/{which}") for which, source in zip("qk", heads, strict=False))
    k = graph.node("Concat", [f"past_key_values.{index}.key", k], f"present.{index}.key", axis=2)
    v = graph.node("Concat", [f"past_key_values.{index}.value", heads[2]], f"present.{index}.value", axis=2)
    # The query heads of one key head are laid side by side instead of copying keys: [batch, kv_heads, group, sequence, head].
    group = shape.heads // shape.kv_heads
    q = graph.node("Reshape", [q, graph.ints(0, shape.kv_heads, group, -1, shape.head)], f"{name}/q/groups")
    k, v = (graph.node("Unsqueeze", [source, graph.ints(2)], f"{name}/{which}/group") for which, source in (("k", k), ("v", v)))
    scores = graph.node("MatMul", [q, graph.node("Transpose", [k], f"{name}/k/turned", perm=[0, 1, 2, 4, 3])], f"{name}/products")
    scores = graph.node("Mul", [scores, graph.const("scale", np.array(shape.head**-0.5, np.float32))], f"{name}/scores")
    scores = graph.node("Add", [scores, graph.node("Unsqueeze", [mask, graph.ints(2)], f"{name}/mask")], f"{name}/masked")
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], f"{name}/weights", axis=-1), v], f"{name}/mixed")
    mixed = graph.node("Reshape", [mixed, graph.ints(0, shape.heads, -1, shape.head)], f"{name}/mixed/heads")
    mixed = graph.node("Transpose", [mixed], f"{name}/mixed/turned", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [mixed, graph.ints(0, 0, shape.width)], f"{name}/mixed/joined")


def rotate(graph: Graph, shape: Shape, source: str, cos: str, sin: str, name: str) -> str:
    """Rotary positions, halves apart as in Llama."""
    half = shape.head // 2
    first = graph.node("Slice", [source, graph.ints(0), graph.ints(half), graph.ints(3)], f"{name}/first")
    second = graph.node("Slice", [source, graph.ints(half), graph.ints(shape.head), graph.ints(3)], f"{name}/second")
    turned = graph.node("Concat", [graph.node("Neg", [second], f"{name}/minus"), first], f"{name}/swapped", axis=-1)
    straight = graph.node("Mul", [source, cos], f"{name}/cos")
    return graph.node("Add", [straight, graph.node("Mul", [turned, sin], f"{name}/sin")], f"{name}/rotated")


def gqa_lengths(graph: Graph, shape: Shape) -> tuple[str, ...]:
    """What the fused layers share: each row's length less one, the longest, cosines and sines."""
    length = graph.node("ReduceSum", ["attention_mask", graph.ints(1)], "lengths", keepdims=0)
    last = graph.node("Cast", [graph.node("Sub", [length, graph.ints(1)], "lengths_less_one")], "seqlens_k", to=INT32)
    total = graph.node("Shape", ["attention_mask"], "total_length", start=1, end=2)
    total = graph.node("Cast", [graph.node("Squeeze", [total], "total_scalar")], "total_sequence_length", to=INT32)
    cos, sin = rotation(shape)
    return last, total, graph.const("cos_cache", cos), graph.const("sin_cache", sin)


def fused_attention(graph: Graph, shape: Shape, index: int, qkv: tuple[str, ...], shared: tuple[str, ...]) -> str:
    """GroupQueryAttention with the rotation inside."""
    name = f"model/layers.{index}/self_attn/attention"
    past = [f"past_key_values.{index}.{which}" for which in ("key", "value")]
    present = [f"present.{index}.{which}" for which in ("key", "value")]
    graph.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [*qkv, *past, *shared],
            [name, *present],
            name=name,
            domain="com.microsoft",
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=shape.head**-0.5,
        )
    )
    return name


def finish(graph: Graph, shape: Shape, fused: bool) -> onnx.ModelProto:
    """Names inputs and outputs and closes the graph."""

    def value(name: str, kind: int, *dims: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    total = "past_sequence_length + sequence_length"
    inputs = [value("input_ids", INT64, "batch_size", "sequence_length"), value("attention_mask", INT64, "batch_size", total)]
    if not fused:
        inputs.append(value("position_ids", INT64, "batch_size", "sequence_length"))
    outputs = [value("logits", FLOAT, "batch_size", "sequence_length", shape.vocab)]
    for index in range(shape.layers):
        for which in ("key", "value"):
            cache = ("batch_size", shape.kv_heads)
            inputs.append(value(f"past_key_values.{index}.{which}", FLOAT, *cache, "past_sequence_length", shape.head))
            outputs.append(value(f"present.{index}.{which}", FLOAT, *cache, total, shape.head))
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("com.microsoft", 1)] if fused else [])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "stories", inputs, outputs, constants),
        opset_imports=opsets,
        ir_version=9,
        producer_name="tensorwire",
    )
    onnx.checker.check_model(model)
    return model
