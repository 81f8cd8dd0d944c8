"""`./run demo` and the options of `./run serve`: mistakes are reported before a server starts."""

import numpy as np
import pytest
from PIL import Image
from polling import poll

from pem_server import cli, demo
from pem_server.checkout import MODEL_REPOSITORY

COMPLETE = (MODEL_REPOSITORY / "pem_network" / "1" / "model.onnx").is_file()


@pytest.fixture
def image(tmp_path):
    """A small image of noise, as a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def no_server(monkeypatch):
    """Fails the test when a server is made."""
    monkeypatch.setattr(demo, "TritonServer", lambda *_, **__: pytest.fail("a server was made"))


@pytest.mark.usefixtures("no_server")
def test_a_broken_image_is_one_line_and_no_server_is_started(image, tmp_path, capsys):
    assert demo.image_problem(image) is None
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:60])
    for name in (".", "absent.jpg", "empty.jpg", "text.jpg", "cut.png"):
        path = tmp_path / name
        assert cli.main(["demo", str(path), "--output", str(tmp_path / "overlay.png")]) == 1
        message = capsys.readouterr().err
        assert str(path) in message
        assert message.count("\n") == 1


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize("output", ["overlay.txt", "overlay", "noise.png/overlay.png"])
def test_an_output_that_cannot_be_written_is_one_line(image, output, capsys):
    target = image.parent / output
    assert cli.main(["demo", str(image), "--output", str(target)]) == 1
    message = capsys.readouterr().err
    assert str(target) in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--http-port", "65536"],
        ["serve", "--grpc-port", "-1"],
        ["serve", "--metrics-port", "http"],
        ["serve", "--stub-network", "20"],
        ["demo", "--threshold", "nan"],
        ["demo", "--threshold", "half"],
        [],
    ],
)
def test_wrong_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "error" in capsys.readouterr().err


def test_the_old_name_of_the_stub_network_is_accepted(monkeypatch, capsys):
    costs = []
    monkeypatch.setattr("pem_server.cli._serve", lambda options: costs.append(options.stub_network))
    cli.main(["serve", "--stand-in", "20:5"])
    assert costs == [(20, 5)]
    assert "--stub-network" in capsys.readouterr().err


@pytest.mark.skipif(not COMPLETE, reason="the network is missing: ./run export makes it")
def test_the_demo_prints_what_it_found_and_writes_both_images(tmp_path, capsys):
    with Image.open(cli.EXAMPLE) as example:
        size = example.size
    overlay = tmp_path / "new folder" / "found.png"
    # Triton gives up a step that got no processor for a second while it loads.
    code, printed = poll(
        lambda: (cli.main(["demo", "--output", str(overlay)]), capsys.readouterr()),
        lambda ended: "is not healthy" not in ended[1].err,
    )
    assert code == 0, printed.err
    for words in ("label", "score", "share", "preprocess", "inference", "round trip", str(overlay)):
        assert words in printed.out
    assert "ready after" in printed.err
    for path in (overlay, overlay.with_name("found-segmentation.png")):
        with Image.open(path) as written:
            assert written.size == size
            assert written.getextrema() != ((0, 0),) * len(written.getbands())
