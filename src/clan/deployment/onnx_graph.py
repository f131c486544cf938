"""An ONNX graph around a network's own: from images of any size to label maps of that size.

Images are resized as Pillow does it for training and evaluation, to the bit: bicubic with antialiasing, weights rounded
to 22 bits, each axis rounded to 8 bits. Doubles hold those sums exactly. ONNX's own `Resize` differs in some pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from clan.evaluation.model_card import ModelCard
from clan.evaluation.onnx_network import INPUT, INPUT_SIZE, LOGITS

OPSET, IR_VERSION = 17, 8

PRECISION = 2.0**22
"""Of Pillow's weights."""

LABELS, CONFIDENCE, DISCREPANCY = "labels", "confidence", "discrepancy"


class Nodes:
    """Nodes and constants of a graph that grows.

    Args:
        prefix: of the names of what is added.
    """

    def __init__(self, prefix: str = "clan") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Adds a constant and returns its name."""
        name = f"{self.prefix}.constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        name = name or f"{self.prefix}.{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def length(self, of: str, axis: int) -> str:
        """The length of an axis, int64 [1]."""
        return self.add("Shape", of, start=axis, end=axis + 1)

    def joined(self, *parts: str) -> str:
        """Concatenates vectors."""
        return self.add("Concat", *parts, axis=0)

    def branch(self, prefix: str) -> "Nodes":
        """A graph that reads the names of this one."""
        return Nodes(f"{self.prefix}.{prefix}{len(self.nodes)}")

    def graph(self, result: str, element: int, rank: int) -> onnx.GraphProto:
        """What was added as a branch of `If` that gives `result`."""
        output = helper.make_tensor_value_info(result, element, [None] * rank)
        return helper.make_graph(self.nodes, self.prefix, [], [output], self.constants)


def surrounded(body: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """A model from images to all that `card.outputs` names.

    Args:
        body: from normalised planes, float32 [N, 3, h, w], to logits, float32 [N, heads, C, a, b].
        card: what the network is.
    """
    inner = body.graph
    nodes = Nodes()
    whole, seen = nodes.length(INPUT, 1), nodes.length(INPUT, 1)
    whole = nodes.joined(whole, nodes.length(INPUT, 2))  # height and width
    seen = INPUT_SIZE if card.input.resize else whole
    values = nodes.add("Cast", nodes.add("Transpose", INPUT, perm=[0, 3, 1, 2]), to=TensorProto.DOUBLE)
    if card.input.resize:
        values = resized(nodes, values, whole)
    planes = normalized(nodes, values, card)
    first = len(nodes.nodes)
    for node in inner.node:
        renamed = [planes if name == inner.input[0].name else name for name in node.input]
        node.input[:] = renamed
        node.output[:] = [LOGITS if name == inner.output[0].name else name for name in node.output]
    nodes.nodes[first:] = inner.node
    outputs = _outputs(nodes, card, whole, seen)
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", "height", "width", 3])]
    constants = [*inner.initializer, *nodes.constants]
    if card.input.resize:
        if card.input.any_size:
            inputs.append(helper.make_tensor_value_info(INPUT_SIZE, TensorProto.INT64, [2]))
        constants.append(numpy_helper.from_array(np.array(card.input.size[::-1], np.int64), INPUT_SIZE))
    graph = helper.make_graph(nodes.nodes, "clan", inputs, outputs, constants)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), *(one for one in body.opset_import if one.domain)],
        ir_version=IR_VERSION,
        producer_name=card.software,
    )


def resized(nodes: Nodes, values: str, whole: str) -> str:
    """Doubles [N, 3, H, W] at `INPUT_SIZE`; an axis that has its length already is left as it is."""
    for axis in (1, 0):  # Pillow's order
        index = nodes.constant([axis], np.int64)
        old, new = nodes.add("Gather", whole, index), nodes.add("Gather", INPUT_SIZE, index)
        same = nodes.add("Squeeze", nodes.add("Equal", old, new))
        untouched, changed = nodes.branch("same"), nodes.branch("resized")
        kept = untouched.add("Identity", values)
        result = _resize_axis(changed, values, old, new, axis)
        values = nodes.add(
            "If",
            same,
            then_branch=untouched.graph(kept, TensorProto.DOUBLE, 4),
            else_branch=changed.graph(result, TensorProto.DOUBLE, 4),
        )
    return values


def _resize_axis(nodes: Nodes, values: str, old: str, new: str, axis: int) -> str:
    """Doubles [N, 3, H, W] with `new` rows (axis 0) or columns (axis 1) instead of `old`."""

    def number(value: float) -> str:
        return nodes.constant(value, np.float64)

    def positions(count: str) -> str:
        scalar = nodes.add("Squeeze", nodes.add("Cast", count, to=TensorProto.DOUBLE))
        return nodes.add("Range", number(0.0), scalar, number(1.0))

    scale = nodes.add("Div", *(nodes.add("Cast", count, to=TensorProto.DOUBLE) for count in (old, new)))
    centers = nodes.add("Mul", nodes.add("Add", positions(new), number(0.5)), scale)
    places = nodes.add("Unsqueeze", positions(old), nodes.constant([0], np.int64))
    apart = nodes.add("Sub", places, nodes.add("Unsqueeze", centers, nodes.constant([1], np.int64)))
    stretch = nodes.add("Max", scale, number(1.0))
    distance = nodes.add(
        "Abs", nodes.add("Mul", nodes.add("Add", apart, number(0.5)), nodes.add("Div", number(1.0), stretch))
    )
    raw = _cubic(nodes, distance, number)
    total = nodes.add("ReduceSum", raw, nodes.constant([1], np.int64), keepdims=1)
    exact = nodes.add("Mul", nodes.add("Div", raw, total), number(PRECISION))
    weights = nodes.add(
        "Mul", nodes.add("Sign", exact), nodes.add("Floor", nodes.add("Add", nodes.add("Abs", exact), number(0.5)))
    )
    if axis == 1:
        weighted = nodes.add("MatMul", values, nodes.add("Transpose", weights, perm=[1, 0]))
    else:
        weighted = nodes.add("MatMul", weights, values)
    rounded = nodes.add("Floor", nodes.add("Div", nodes.add("Add", weighted, number(PRECISION / 2)), number(PRECISION)))
    return nodes.add("Clip", rounded, number(0.0), number(255.0))


def _cubic(nodes: Nodes, distance: str, number: Any) -> str:
    """Cubic convolution with a = −0.5 at distances from 0 on; 0 from 2 on."""

    def product(*factors: str) -> str:
        result = factors[0]
        for factor in factors[1:]:
            result = nodes.add("Mul", result, factor)
        return result

    def plus(x: str, summand: float) -> str:
        return nodes.add("Add", x, number(summand))

    a, x = -0.5, distance
    near = plus(product(plus(product(number(a + 2), x), -(a + 3)), x, x), 1.0)
    far = product(plus(product(plus(product(plus(x, -5.0), x), 8.0), x), -4.0), number(a))
    outside = nodes.add("Where", nodes.add("Less", x, number(2.0)), far, number(0.0))
    return nodes.add("Where", nodes.add("Less", x, number(1.0)), near, outside)


def normalized(nodes: Nodes, values: str, card: ModelCard) -> str:
    """Doubles 0…255 [N, 3, h, w] in RGB → the network's planes, float32."""
    how = card.normalization
    order = list(how.order)
    planes = nodes.add("Cast", values, to=TensorProto.FLOAT)
    if order != [0, 1, 2]:
        planes = nodes.add("Gather", planes, nodes.constant(order, np.int64), axis=1)

    def channels(numbers: Sequence[float]) -> str:
        return nodes.constant(np.reshape([numbers[index] for index in order], (1, 3, 1, 1)))

    planes = nodes.add("Sub", planes, channels(how.mean))
    if how.std != (1.0, 1.0, 1.0):
        planes = nodes.add("Mul", planes, channels([1.0 / one for one in how.std]))
    return planes


def _outputs(nodes: Nodes, card: ModelCard, whole: str, seen: str) -> list[onnx.ValueInfoProto]:
    """Adds what makes the outputs of the logits, and describes them in the order of the card."""
    full = ["n", "height", "width"]
    network = card.network
    described = {
        LABELS: (TensorProto.UINT8, full),
        LOGITS: (TensorProto.FLOAT, ["n", network.num_heads, card.num_classes, "rows", "columns"]),
        CONFIDENCE: (TensorProto.FLOAT, full),
        DISCREPANCY: (TensorProto.FLOAT, full),
    }
    axis = nodes.constant([1], np.int64)
    total = nodes.add("ReduceSum", LOGITS, axis, keepdims=0)
    full_size = resampled(nodes, total, whole, network.align_corners, network.upsampling)
    nodes.add("Cast", nodes.add("ArgMax", full_size, axis=1, keepdims=0), name=LABELS, to=TensorProto.UINT8)
    wanted = [name for name in (CONFIDENCE, DISCREPANCY) if name in card.outputs]
    if wanted:
        # As in training: of logits at the size of the network's input.
        flat = nodes.add("Reshape", LOGITS, nodes.joined(nodes.length(LOGITS, 0), nodes.constant([-1], np.int64),
                         nodes.add("Shape", LOGITS, start=3)))  # fmt: skip
        large = resampled(nodes, flat, seen, network.align_corners)
        shape = nodes.joined(nodes.length(LOGITS, 0), nodes.add("Shape", LOGITS, start=1, end=3), seen)
        heads = nodes.add("Reshape", large, shape)
        maps = {CONFIDENCE: _confidence, DISCREPANCY: _discrepancy}
        for name in wanted:
            values = resampled(nodes, maps[name](nodes, heads), whole, False)
            nodes.add("Squeeze", values, axis, name=name)
    return [helper.make_tensor_value_info(name, *described[name]) for name in card.outputs]


def resampled(nodes: Nodes, maps: str, size: str, align_corners: bool, mode: str = "bilinear") -> str:
    """Float32 [N, K, a, b] at `size` (height, width)."""
    shape = nodes.joined(nodes.add("Shape", maps, start=0, end=2), size)
    return nodes.add(
        "Resize",
        maps,
        "",
        "",
        shape,
        mode="linear" if mode == "bilinear" else "cubic",
        coordinate_transformation_mode="align_corners" if align_corners else "half_pixel",
        cubic_coeff_a=-0.75,
    )


def _confidence(nodes: Nodes, heads: str) -> str:
    """The largest probability, [N, 1, h, w], of logits [N, heads, C, h, w]."""
    total = nodes.add("ReduceSum", heads, nodes.constant([1], np.int64), keepdims=0)
    return nodes.add("ReduceMax", nodes.add("Softmax", total, axis=1), axes=[1], keepdims=1)


def _discrepancy(nodes: Nodes, heads: str) -> str:
    """1 − cosine of two heads' probabilities, [N, 1, h, w], of logits [N, 2, C, h, w]."""
    probabilities = nodes.add("Softmax", heads, axis=2)
    first, second = (nodes.add("Gather", probabilities, nodes.constant(head, np.int64), axis=1) for head in (0, 1))

    def dot(one: str, other: str) -> str:
        return nodes.add("ReduceSum", nodes.add("Mul", one, other), nodes.constant([1], np.int64), keepdims=1)

    squares = nodes.add("Sqrt", nodes.add("Mul", dot(first, first), dot(second, second)))
    return nodes.add("Sub", nodes.constant(1.0), nodes.add("Div", dot(first, second), squares))


def with_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with constants in place of nodes that hold them, without those that nothing reads."""
    graph = model.graph
    kept, constants = [], list(graph.initializer)
    for node in graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            value.name = node.output[0]
            constants.append(value)
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input} | {one.name for one in graph.output}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(one for one in constants if one.name in read)
    return model


def halved(model: onnx.ModelProto, *, least: int = 256) -> onnx.ModelProto:
    """The model with its weights in float16, which become float32 when it is loaded; it computes in float32.

    Args:
        model: with initializers.
        least: numbers of an array to be worth it.
    """
    graph, casts = model.graph, []
    for index, constant in enumerate(graph.initializer):
        if constant.data_type == TensorProto.FLOAT and np.prod(constant.dims) >= least:
            name = f"{constant.name}.half"
            numbers = numpy_helper.to_array(constant).clip(-65504, 65504).astype(np.float16)
            casts.append(helper.make_node("Cast", [name], [constant.name], name=name, to=TensorProto.FLOAT))
            graph.initializer[index].CopyFrom(numpy_helper.from_array(numbers, name))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
