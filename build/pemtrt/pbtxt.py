"""Read a config.pbtxt without protobuf, which the serving image does not have.

Protobuf's text format, as far as model configurations use it: scalars, nested messages and lists.
Every field is a list, because the text does not say which may come once only.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, list[Any]]  # a field's values in their order: Message, str, int, float, bool

TOKEN = re.compile(
    r"""\s+|\#[^\n]*
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<mark>[{}\[\]:,;<>])
    |(?P<word>[^\s{}\[\]:,;<>"'\#]+)""",
    re.VERBOSE,
)
CLOSING = {"{": "}", "<": ">"}


def read(path: Path) -> Message:
    """The message in a file. ValueError with a sentence when it is not one."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be in protobuf's text format: {error}") from error


def parse(text: str) -> Message:
    """The message that `text` spells. ValueError when it cannot be read."""
    return _message([*_tokens(text), ""][::-1], "")


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise ValueError(f"{text[position : position + 20]!r} cannot be read")
        position = match.end()
        if match.lastgroup:
            yield match[0]


def _message(tokens: list[str], end: str) -> Message:
    """`tokens`, the next one last, are taken up to and with `end`."""
    message: Message = {}
    while (name := tokens.pop()) != end:
        if not re.fullmatch(r"\w+", name):
            raise ValueError(f"a field's name was expected, not {name or 'the end'!r}")
        if tokens[-1] == ":":
            tokens.pop()
        elif tokens[-1] not in (*CLOSING, "["):
            raise ValueError(f"after {name} there must be a colon or a bracket")
        message.setdefault(name, []).extend(_values(tokens))
        if tokens[-1] in (",", ";"):
            tokens.pop()
    return message


def _values(tokens: list[str]) -> list[Any]:
    if tokens[-1] != "[":
        return [_value(tokens)]
    tokens.pop()
    values = []
    while tokens[-1] != "]":
        values.append(_value(tokens))
        if tokens[-1] == ",":
            tokens.pop()
    tokens.pop()
    return values


def _value(tokens: list[str]) -> Any:
    token = tokens.pop()
    if token in CLOSING:
        return _message(tokens, CLOSING[token])
    if token[:1] in ('"', "'"):
        text = ast.literal_eval(token)
        while tokens[-1][:1] in ('"', "'"):  # neighbours are one string
            text += ast.literal_eval(tokens.pop())
        return text
    if not token or token in "{}[]:,;<>":
        raise ValueError(f"a value was expected, not {token or 'the end'!r}")
    return _scalar(token)


def _scalar(word: str) -> bool | int | float | str:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word  # the name of an enumeration's value, such as TYPE_UINT8
