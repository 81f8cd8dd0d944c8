"""A faster argmax: OpenVINO's TopK without the promise to keep equal values in order.

ONNX's ArgMax becomes a stable TopK of one, three to five times as slow as an unstable one. With a
dynamic batch size, OpenVINO's unstable kernel takes the first of equal values all the same; with a
fixed one it does not, so such a TopK stays stable.
"""

import openvino
from openvino import opset13

ATTRIBUTES = ("axis", "mode", "sort", "index_element_type")


def allow_unstable_topk(graph: openvino.Model) -> None:
    """Replace every stable TopK of one value, of tensors of dynamic shape, by an unstable one."""
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "TopK" and _keeps_first_value(node):
            attributes = {name: node.get_attributes()[name] for name in ATTRIBUTES}
            unstable = opset13.topk(*node.input_values(), **attributes)
            for old, new in zip(node.outputs(), unstable.outputs(), strict=True):
                for target in old.get_target_inputs():
                    target.replace_source_output(new)


def _keeps_first_value(node: openvino.Node) -> bool:
    count = node.input_value(1).get_node()
    return (
        node.input(0).get_partial_shape().is_dynamic
        and count.get_type_name() == "Constant"
        and int(count.get_data()) == 1
    )
