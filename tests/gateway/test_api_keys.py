import hashlib
import os
from pathlib import Path

import pytest

from pem_gateway.api_keys import ApiKeys, presented

KEY, OTHER = "k" * 32, "o" * 32
HASHED = hashlib.sha256(OTHER.encode()).hexdigest()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_have_names(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may ask\n\nanna:{KEY}\n  bert : sha256:{HASHED}\nanna:{KEY}2\n")
    keys = ApiKeys(path)
    assert keys.name_of(KEY) == keys.name_of(KEY + "2") == "anna"
    assert keys.name_of(OTHER) == "bert"
    for key in ("", KEY[:-1], KEY + " ", HASHED, f"sha256:{HASHED}", "anna", "\ud800", "é"):
        assert keys.name_of(key) is None


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "secretsecret", ":secretsecret", "a b:secretsecret", "anna:",
     "anna:two words", "anna:é", "anna:sha256:abc", f"anna:{KEY}\nbert:{KEY}",
     f"anna:{OTHER}\nb:sha256:{HASHED}"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_and_no_key_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)) as caught:
        ApiKeys(path)
    assert "secret" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path, clock, said = tmp_path / "keys", Clock(), list[str]()
    path.write_text(f"anna:{KEY}")
    keys = ApiKeys(path, said.append, clock)

    def change(text: str) -> None:
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)
        clock.now += 5

    change("broken")
    assert keys.name_of(KEY) == "anna"
    assert str(path) in said[-1]
    change(f"bert:{OTHER}")
    assert (keys.name_of(KEY), keys.name_of(OTHER)) == (None, "bert")
    path.unlink()
    clock.now += 5
    assert keys.name_of(OTHER) == "bert"


def test_a_key_that_is_easily_guessed_is_reported_by_its_name(tmp_path: Path) -> None:
    path, said = tmp_path / "keys", list[str]()
    path.write_text("anna:short")
    assert ApiKeys(path, said.append).name_of("short") == "anna"
    assert "anna" in said[0]
    assert "short" not in said[0]


def test_either_header_carries_a_key() -> None:
    assert presented("Bearer abc", None) == presented("bearer  abc ", None) == "abc"
    assert presented(None, " abc ") == presented("Basic x", "abc") == "abc"
    assert presented("Basic abc", None) is None
    assert presented(None, None) is presented("Bearer", "") is None
