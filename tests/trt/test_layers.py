"""The table of an engine's layers, from the inspector's JSON."""

import json

import pytest

from pemtrt.layers import Layer, layers_of, to_markdown

DETAILED = {
    "Name": "/conv/Conv + /relu/Relu",
    "LayerType": "CaskConvolution",
    "Outputs": [
        {
            "Name": "y",
            "Dimensions": [8, 64, 160, 160],
            "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
        }
    ],
    "TacticName": "turing_h1688|fprop",
}


@pytest.mark.parametrize(
    ("entries", "layers"),
    [
        ([], []),
        (
            [DETAILED],
            [
                Layer(
                    "/conv/Conv + /relu/Relu",
                    "CaskConvolution",
                    "FP16",
                    "8 x 64 x 160 x 160",
                    "turing_h1688|fprop",
                )
            ],
        ),
        (["a name only"], [Layer("a name only", "", "", "", "")]),
        ([{}], [Layer("", "", "", "", "")]),
        (
            [{"Name": "shape", "Outputs": [{"Datatype": "Half"}], "TacticValue": "0x0"}],
            [Layer("shape", "", "Half", "", "0x0")],
        ),
        (
            [{"Name": "q", "Outputs": [{"Format/Datatype": "Row major Int8"}, {"Datatype": "x"}]}],
            [Layer("q", "", "Int8, x", "", "")],
        ),
    ],
)
def test_missing_fields_of_a_layer_are_empty(entries: list, layers: list[Layer]) -> None:
    assert layers_of(json.dumps({"Layers": entries, "Bindings": []})) == layers


def test_the_page_counts_kinds_and_names_every_layer() -> None:
    layers = layers_of(json.dumps({"Layers": [DETAILED, DETAILED, {"Name": "n" * 200}]}))
    page = to_markdown(layers, "fp16 engine").splitlines()
    assert page[0] == "# fp16 engine"
    assert "| CaskConvolution | FP16 | 2 |" in page
    row = next(line for line in page if line.startswith("| 0 |"))
    assert row.endswith("| FP16 | 8 x 64 x 160 x 160 | turing_h1688/fprop |")
    assert max(map(len, page)) < 200


@pytest.mark.parametrize("report", ["", "no JSON", '{"Layers": [nan,]}'])
def test_a_report_that_is_not_json_is_a_value_error(report: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        layers_of(report)
