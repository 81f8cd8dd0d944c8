"""The cheap way to the greatest value: OpenVINO's TopK without the promise to be stable.

ONNX's ArgMax comes as a TopK of one that keeps equal values in order, and that promise costs three
to five times the time. For a batch of any size, OpenVINO's kernel takes the first of equal values
without it too; not for a fixed size, so such a TopK is left as it is.
"""

import openvino
from openvino import opset13

KEPT = ("axis", "mode", "sort", "index_element_type")


def unpromise_order(graph: openvino.Model) -> None:
    """Replace every stable TopK for one value of dynamic tensors by one that is not stable."""
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "TopK" and _is_first_anyway(node):
            facts = node.get_attributes()
            cheap = opset13.topk(*node.input_values(), **{name: facts[name] for name in KEPT})
            for old, new in zip(node.outputs(), cheap.outputs(), strict=True):
                for reader in old.get_target_inputs():
                    reader.replace_source_output(new)


def _is_first_anyway(node: openvino.Node) -> bool:
    count = node.input_value(1).get_node()
    return (
        node.input(0).get_partial_shape().is_dynamic
        and count.get_type_name() == "Constant"
        and int(count.get_data()) == 1
    )
