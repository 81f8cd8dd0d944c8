"""`./run import-weights`: the report on stderr, the path on stdout, one line when it cannot."""

from collections.abc import Callable
from pathlib import Path

import export_onnx
import import_weights
import pytest
import torch

from pemseg import Pem, load_network

Capture = pytest.CaptureFixture[str]


def test_a_checkpoint_becomes_safetensors_of_the_same_network_ready_to_export(
    tiny_network: Callable[..., Pem],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    assert root / "artifacts" / "weights" == import_weights.FOLDER
    monkeypatch.setattr(import_weights, "FOLDER", tmp_path / "weights")
    network = tiny_network(seed=1).half().float()
    checkpoint, target = tmp_path / "mine.pth", tmp_path / "new" / "weights.safetensors"
    torch.save({"model": network.state_dict()}, checkpoint)
    assert import_weights.main([str(checkpoint), "--output", str(target)]) == 0
    output = capsys.readouterr()
    assert output.out == f"{target}\n"
    assert str(checkpoint) in output.err
    loaded = load_network(target).state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded[key], value, atol=0, rtol=0)

    assert import_weights.main([str(checkpoint)]) == 0
    written = tmp_path / "weights" / "mine.safetensors"
    assert capsys.readouterr().out == f"{written}\n"
    words = ["--weights", str(written), "--output", str(tmp_path / "mine.onnx"), "--size", "64"]
    assert export_onnx.main(words) == 0
    assert (tmp_path / "mine.onnx").is_file()


def test_what_is_no_checkpoint_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    arguments = [str(tmp_path / "other.pth"), "--output", str(tmp_path / "w.safetensors")]
    assert import_weights.main(arguments) == 1
    output = capsys.readouterr()
    facts = output.out, output.err[:16], output.err.count("\n")
    assert facts == ("", "import-weights: ", 1)
    assert not (tmp_path / "w.safetensors").exists()
