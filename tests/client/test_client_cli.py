"""The command line: what it prints, where, and its exit codes."""

import io
import json
import os
import socket
import sys
from functools import partial

import pytest
from PIL import Image

from pem_client import Client, Detections, InvalidRequest, ServerUnavailable, format_table
from pem_client.cli import main


@pytest.fixture
def server(transport, monkeypatch):
    """Connect the command line to the fake server."""
    monkeypatch.setattr("pem_client.cli.Client", partial(Client, transport=transport))
    return transport


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "street.png"
    Image.new("RGB", (60, 40), (100, 100, 100)).save(path)
    return path


def assert_one_line(error, part):
    assert error.startswith("pem-client: ")
    assert part in error
    assert error.count("\n") == 1


def test_one_image_prints_its_table(server, street, image, capsys):
    assert main(["segment", str(image)]) == 0
    assert capsys.readouterr() == (f"{format_table(street)}\n", "")
    (request,) = server.requests
    assert (request["image"].item(), request["threshold"].item()) == (image.read_bytes(), 0.5)
    assert server.closed


def test_several_images_have_a_header_each(server, street, image, tmp_path, capsys):
    other = tmp_path / "other.png"
    other.write_bytes(image.read_bytes())
    assert main(["segment", str(image), str(other), "--threshold", "0.25"]) == 0
    table = format_table(street)
    assert capsys.readouterr().out == f"{image}:\n{table}\n{other}:\n{table}\n"
    assert [request["threshold"].item() for request in server.requests] == [0.25, 0.25]


def test_json_is_one_document_a_line(server, street, image, capsys):
    assert main(["segment", "--json", str(image), str(image)]) == 0
    document, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert document.pop("image") == str(image)
    assert Detections.from_json(json.dumps(document)) == street


def test_the_overlay_of_one_image_is_written_to_its_path(server, street, image, tmp_path, capsys):
    target = tmp_path / "new folder" / "drawn.png"
    assert main(["segment", str(image), "--overlay", str(target)]) == 0
    assert capsys.readouterr().err == f"overlay: {target}\n"
    with Image.open(target) as drawn:
        assert drawn.tobytes() == street.overlay(image).tobytes()


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.jpg"]])
def test_overlays_go_into_a_folder(server, tmp_path, names):
    images, folder = [str(tmp_path / name) for name in names], tmp_path / "overlays"
    folder.mkdir()
    for path in images:
        Image.new("RGB", (60, 40)).save(path)
    assert main(["segment", *images, "--overlay", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"][: len(names)]


def test_two_overlays_of_one_name_are_refused_before_anything_is_sent(
    server, image, tmp_path, capsys
):
    assert main(["segment", str(image), str(image), "--overlay", str(tmp_path / "o")]) == 1
    assert capsys.readouterr().err.startswith("pem-client: ")
    assert not server.requests


@pytest.mark.parametrize("name", ["drawn.nonsense", "drawn", "blocked/drawn.png"])
def test_an_overlay_that_cannot_be_written_is_one_line(server, image, tmp_path, capsys, name):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    assert main(["segment", str(image), "--overlay", str(tmp_path / name)]) == 1
    assert_one_line(capsys.readouterr().err, str(tmp_path / name))
    Image.new("L", (6, 4)).save(image)  # is now not the image of the masks
    assert main(["segment", str(image), "--overlay", str(tmp_path / "drawn.png")]) == 1
    assert_one_line(capsys.readouterr().err, str(image))


def test_a_missing_file_is_one_line_and_does_not_stop_the_others(
    server, street, image, tmp_path, capsys
):
    missing = tmp_path / "missing.jpg"
    assert main(["segment", str(missing), str(image)]) == 1
    out, err = capsys.readouterr()
    assert err == f"pem-client: {missing}: No such file or directory\n"
    assert format_table(street) in out
    server.error = InvalidRequest("image must be an image")
    assert main(["segment", str(image), str(image)]) == 1
    assert capsys.readouterr() == ("", f"pem-client: {image}: image must be an image\n" * 2)


def test_a_server_that_is_gone_ends_the_command_at_once(server, image, capsys):
    server.error = ServerUnavailable("nobody there")
    assert main(["segment", str(image), str(image)]) == 1
    assert capsys.readouterr().err == "pem-client: nobody there\n"
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:{}", "http://127.0.0.1:{}", "ftp://here:{}"])
def test_a_server_that_cannot_be_reached_is_one_line(image, capsys, url):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = url.format(listener.getsockname()[1])  # which is closed again
    assert main(["segment", str(image), "--url", url]) == 1
    assert_one_line(capsys.readouterr().err, url)


def test_a_reader_that_went_away_is_quiet(server, image, capsys, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["segment", "--json", str(image)]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_under_stdout_is_one_line(server, image, capsys, monkeypatch):
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["segment", str(image)]) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_a_file_name_that_is_not_utf8_does_not_stop_the_output(server, image, monkeypatch):
    strange = image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xff.png"))
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="utf-8"))
    assert main(["segment", str(strange), str(strange)]) == 0
    assert b"/?.png:\n" in buffer.getvalue()


@pytest.mark.parametrize("argv", [[], ["segment"], ["segment", "a.jpg", "--threshold", "high"]])
def test_a_command_that_is_not_understood_shows_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pem-client")
