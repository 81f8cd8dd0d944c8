"""`./run import-weights`: the report on stderr, the path on stdout, one line when it cannot."""

from collections.abc import Callable
from pathlib import Path

import export_onnx
import import_weights
import pytest
import torch

from pemexport import contract
from pemseg import Pem, load_network


def test_a_checkpoint_becomes_safetensors_of_the_same_network(
    tiny_network: Callable[..., Pem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny_network(layers=6, deformable=True).half().float()
    checkpoint, target = tmp_path / "original.pth", tmp_path / "new" / "weights.safetensors"
    torch.save({"model": network.state_dict()}, checkpoint)
    assert import_weights.main([str(checkpoint), "--output", str(target)]) == 0
    output = capsys.readouterr()
    assert output.out == f"{target}\n"
    assert str(checkpoint) in output.err
    loaded = load_network(target).state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded[key], value, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_without_output_the_weights_go_to_artifacts_ready_to_export(
    tiny_network: Callable[..., Pem],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert root / "artifacts" / "weights" == import_weights.FOLDER
    monkeypatch.setattr(import_weights, "FOLDER", tmp_path / "weights")
    tracked = contract.WEIGHTS_PATH.stat()
    torch.save({"model": tiny_network(seed=1).state_dict()}, tmp_path / "mine.pth")
    assert import_weights.main([str(tmp_path / "mine.pth")]) == 0
    written = capsys.readouterr().out.strip()
    assert written == str(tmp_path / "weights" / "mine.safetensors")
    assert contract.WEIGHTS_PATH.stat() == tracked
    target = tmp_path / "mine.onnx"
    words = ["--weights", written, "--output", str(target), "--size", "64"]
    assert export_onnx.main(words) == 0
    assert target.is_file()


def test_what_is_no_checkpoint_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    arguments = [str(tmp_path / "other.pth"), "--output", str(tmp_path / "w.safetensors")]
    assert import_weights.main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("import-weights: ")
    assert output.err.count("\n") == 1
    assert not (tmp_path / "w.safetensors").exists()
