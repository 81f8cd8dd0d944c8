"""Our reader of protobuf's text format against protobuf's own."""

from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from pemtrt import pbtxt

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
CONFIGS = sorted([*REPOSITORY.glob("*/config.pbtxt"), *REPOSITORY.glob("*/configs/*.pbtxt")])


def as_protobuf(message: pbtxt.Message, descriptor: object) -> dict[str, object]:
    """Our lists of values in the form that protobuf's JSON has for this message."""
    form = {}
    for name, values in message.items():
        field = descriptor.fields_by_name[name]
        if field.message_type and field.message_type.GetOptions().map_entry:
            value_type = field.message_type.fields_by_name["value"]
            form[name] = {
                str(entry["key"][0]): plain(entry["value"][0], value_type) for entry in values
            }
        elif field.is_repeated:
            form[name] = [plain(value, field) for value in values]
        else:
            [value] = values
            form[name] = plain(value, field)
    return form


def plain(value: object, field: object) -> object:
    if isinstance(value, dict):
        return as_protobuf(value, field.message_type)
    return value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_configuration_of_the_repository_reads_as_protobuf_reads_it(path: Path) -> None:
    parsed = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())

    form = as_protobuf(pbtxt.read(path), parsed.DESCRIPTOR)
    assert json_format.ParseDict(form, model_config_pb2.ModelConfig()) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", {}),
        ("# a remark { \n", {}),
        ("a: 1 b: -2.5 c: true d: NAME", {"a": [1], "b": [-2.5], "c": [True], "d": ["NAME"]}),
        ('a: "x\\"y\\n"', {"a": ['x"y\n']}),
        ("a: [ 1, 2 ] a: 3", {"a": [1, 2, 3]}),
        ("a: [ ]", {"a": []}),
        ("a { b: 1 } a < b: 2 >", {"a": [{"b": [1]}, {"b": [2]}]}),
        ("a [ { b: 1 }, { b: 2 } ]", {"a": [{"b": [1]}, {"b": [2]}]}),
        ("a: 'x' 'y'; b: 1, c: 2", {"a": ["xy"], "b": [1], "c": [2]}),
        ('a: "# no remark"', {"a": ["# no remark"]}),
    ],
)
def test_the_text_format_is_read(text: str, message: dict) -> None:
    assert pbtxt.parse(text) == message


@pytest.mark.parametrize(
    "text", ["a", "a:", "a {", "a: [1", "a: }", "{", "a: 1 }", 'a: "open', "a b", "a: [1 { b: 2"]
)
def test_what_is_no_text_format_is_a_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"config\.pbtxt must be in protobuf's text format: "):
        pbtxt.read(path)
