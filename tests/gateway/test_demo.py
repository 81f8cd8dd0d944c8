"""`./run demo` and the options of the commands: mistakes are reported before a server starts."""

import pytest
from PIL import Image
from polling import poll

from pem_gateway import cli, demo
from pem_server.checkout import MODEL_REPOSITORY

GRAPH = MODEL_REPOSITORY / "pem_network" / "1" / "model.onnx"


@pytest.fixture
def image(tmp_path):
    """A small image of noise, as a file."""
    Image.effect_noise((64, 48), 50).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_a_broken_image_or_output_is_one_line_and_no_server_is_started(image, monkeypatch, capsys):
    monkeypatch.setattr(demo, "open_gateway", lambda *_, **__: pytest.fail("a server was made"))
    assert demo.image_problem(image) is None
    folder = image.parent
    broken = {"empty.jpg": b"", "text.jpg": b"text", "cut.png": image.read_bytes()[:60]}
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    images = [folder / name for name in (".", "absent.jpg", *broken)]
    outputs = [folder / name for name in ("overlay.txt", "overlay", "noise.png/overlay.png")]
    mistakes = [(path, folder / "overlay.png", path) for path in images]
    for path, output, named in mistakes + [(image, output, output) for output in outputs]:
        assert cli.main(["demo", str(path), "--output", str(output)]) == 1
        message = capsys.readouterr().err
        assert str(named) in message
        assert message.count("\n") == 1


PORTS = ["serve --http-port 65536", "serve --grpc-port -1", "serve --metrics-port http"]
TIMES = ["serve --settle -1", "serve --limit-seconds nan"]
OTHERS = ["serve --stub-network 20", "demo --threshold nan", "demo --threshold half", ""]


@pytest.mark.parametrize("arguments", PORTS + TIMES + OTHERS)
def test_wrong_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments.split())
    assert "error" in capsys.readouterr().err


def test_the_old_name_of_the_stub_network_is_accepted(monkeypatch, capsys):
    costs = []
    monkeypatch.setattr(
        "pem_gateway.cli._serve", lambda options: costs.append(options.stub_network)
    )
    cli.main(["serve", "--stand-in", "20:5"])
    assert costs == [(20, 5)]
    assert "--stub-network" in capsys.readouterr().err


@pytest.mark.skipif(not GRAPH.is_file(), reason="the network is missing: ./run export makes it")
def test_the_demo_prints_what_it_found_and_writes_both_images(tmp_path, capsys):
    overlay = tmp_path / "new folder" / "found.png"
    # Triton gives up a step that got no processor for a second while it loads.
    code, printed = poll(
        lambda: (cli.main(["demo", "--output", str(overlay)]), capsys.readouterr()),
        lambda ended: "is not healthy" not in ended[1].err,
    )
    assert code == 0, printed.err
    words = ["label", "score", "share", "preprocess", "inference", "round trip", "./run serve"]
    for word in [*words, demo.PAGE, str(overlay)]:
        assert word in printed.out
    assert "ready after" in printed.err
    for path in (overlay, overlay.with_name("found-segmentation.png")):
        with Image.open(path) as written, Image.open(cli.EXAMPLE) as example:
            assert written.size == example.size
            assert written.getextrema() != ((0, 0),) * len(written.getbands())
