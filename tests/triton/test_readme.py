"""Every command and every snippet of the README runs as it stands there."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pem_client import Detections
from pem_server import TritonServer
from pem_training.scenes import write_scenes
from pemexport.repository_steps import has_int8

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CHECKPOINT = "build/weights/street-scenes.safetensors"  # any checkpoint will do
SMALL = "--size 320"  # a quarter of the time, on the same way


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The shell lines of the README without their comments."""
    lines = (
        line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()
    )
    return [line for line in lines if line]


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A user's own folder with an image."""
    shutil.copy(root / "docs" / "street.jpg", tmp_path / "photo.jpg")
    return tmp_path


def run(root: Path, folder: Path, command: str, **replaced: str) -> str:
    """Run a README line from `folder`, with words replaced; returns its standard output."""
    words = [replaced.get(word, word) for word in shlex.split(command)]
    assert words[0] == "./run"
    done = subprocess.run(
        [root / "run", *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_shows_what_the_readme_says(root: Path, folder: Path) -> None:
    assert {"./run demo", "./run demo photo.jpg"} <= set(commands())
    for command in ("./run demo", "./run demo photo.jpg"):
        output = run(root, folder, command)
        for word in ("sky", "building", "road", "preprocess", "round trip"):
            assert word in output
        overlay = re.search(r"^overlay +(.*)$", output, re.MULTILINE)
        assert overlay
        assert (folder / overlay[1]).is_file()


@contextlib.contextmanager
def served(root: Path, *more: str) -> Iterator[dict[str, str]]:
    """`./run serve` on free ports; the addresses it prints. Ended by Ctrl-C."""
    free = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    command = [root / "run", "serve", *free, *more]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        try:
            addresses = {}
            for line in process.stdout:
                name, *values = line.split() or [""]
                addresses[name] = values[-1] if values else ""
                if name == "stop":
                    break
            yield addresses
        finally:
            os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 0


def test_images_are_segmented_by_the_server_that_runs(root: Path, folder: Path) -> None:
    overlay = "./run segment photo.jpg --overlay overlay.png"
    as_json = "./run segment --json --url http://127.0.0.1:8000 photo.jpg"
    assert {"./run serve", overlay, as_json} <= set(commands())
    with served(root) as addresses:
        assert "road" in run(root, folder, f"{overlay} --url {addresses['gRPC']}")
        assert (folder / "overlay.png").is_file()
        url = {"http://127.0.0.1:8000": addresses["HTTP"]}
        assert len(Detections.from_json(run(root, folder, as_json, **url))) > 3


def test_weights_become_the_graph_that_is_served(root: Path, folder: Path) -> None:
    into = "./run import-weights checkpoint.pth --output my.safetensors"
    export = "./run export --weights my.safetensors"
    assert {into, export} <= set(commands())
    run(root, folder, into, **{"checkpoint.pth": str(root / CHECKPOINT)})
    assert run(root, folder, f"{export} --output model.onnx") == "model.onnx\n"
    committed = root / "model_repository" / "pem_network" / "1" / "model.onnx"
    assert (folder / "model.onnx").stat().st_size == committed.stat().st_size


def test_the_graph_is_made_with_the_ranges_that_int8_needs(root: Path, folder: Path) -> None:
    export = "./run export --data FOLDER --calibration IMAGES"
    assert export in commands()
    if not has_int8():
        pytest.skip("needs a processor with INT8 dot products, on which the ranges are judged")
    write_scenes(folder / "drawn", "validation", count=2, seed=36)
    words = {"FOLDER": "drawn", "IMAGES": "drawn/images/validation"}
    # Two drawn scenes are no judges: what the limits do is shown in tests/quant.
    made = run(root, folder, f"{export} --max-loss 100 {SMALL} --output model.onnx", **words)
    assert made.split() == ["model.onnx", "model.ranges.json"]


def test_a_folder_is_measured_and_learnt_from(
    root: Path, folder: Path, server: TritonServer
) -> None:
    evaluate = "./run evaluate --data FOLDER --model grpc://127.0.0.1:8001"
    train = "./run train --data FOLDER --output artifacts/training"
    assert {evaluate, train} <= set(commands())
    for split in ("training", "validation"):
        write_scenes(folder / "drawn", split, count=2, seed=36)
    words = {"FOLDER": "drawn", "grpc://127.0.0.1:8001": f"grpc://{server.grpc_url}"}
    assert "pixel accuracy" in run(root, folder, evaluate, **words)
    short = "--steps 1 --batch 2 --crop 64 --eval-every 0 --precision float32"
    run(root, folder, f"{train} {short}", **words)
    assert (folder / "artifacts" / "training" / "checkpoint.pth").is_file()


@pytest.fixture(scope="module")
def half_graph(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `./run export --precision fp16` writes."""
    export = "./run export --precision fp16"
    assert export in commands()
    path = tmp_path_factory.mktemp("export") / "pem-fp16.onnx"
    assert run(root, path.parent, f"{export} {SMALL} --output {path}") == f"{path}\n"
    return path


def test_the_engines_graphs_are_made_and_proven(root: Path, folder: Path, half_graph: Path) -> None:
    export = "./run export --precision int8 --data FOLDER --calibration IMAGES"
    check = "./run engine --check artifacts/pem-fp16.onnx"
    assert {export, check} <= set(commands())
    write_scenes(folder / "drawn", "validation", count=2, seed=36)
    words = {"FOLDER": "drawn", "IMAGES": "drawn/images/validation"}
    # Two drawn scenes are no judges: what the limits do is shown in tests/quant.
    run(root, folder, f"{export} --max-loss 100 {SMALL} --output int8.onnx", **words)
    for graph in (str(half_graph), "int8.onnx"):
        proof = run(root, folder, check, **{"artifacts/pem-fp16.onnx": graph})
        assert "all supported with their types" in proof


def test_the_network_is_measured_and_reckoned(root: Path, folder: Path) -> None:
    bench = "./run bench engine"
    assert {bench, f"{bench} --roofline"} <= set(commands())
    assert "images" in run(root, folder, f"{bench} --roofline --output reckoned")
    short = "--batches 1 --rounds 1 --turn-seconds 0.1 --only openvino --output measured"
    assert "OpenVINO" in run(root, folder, f"{bench} {short}")
    for image in ("reckoned/roofline.png", "measured/engine.png"):
        assert (folder / image).is_file()


def test_everything_is_measured_in_one_report(root: Path, folder: Path) -> None:
    assert {"./run bench", "./run bench steps", "./run bench sweep"} <= set(commands())
    # Each part has its own tests in tests/bench; together they take ten minutes.
    run(root, folder, "./run bench --skip engine steps end-to-end share memory --output all")
    assert "Where we lose" in (folder / "all" / "report.md").read_text()
    short = "--rounds 1 --turn-seconds 0.5 --output steps"
    served_alone = run(root, folder, f"./run bench steps --only served {short}")
    assert "images a second" in served_alone
    short = "--turn-seconds 1 --open-seconds 1 --output sweep"
    swept = run(root, folder, f"./run bench sweep --try pem_network.threads=1 {short}")
    assert "pem_network.threads=1" in swept


def test_a_graph_of_the_sdk_is_wrapped(root: Path, folder: Path) -> None:
    wrap = "./run wrap-onnx model.onnx --output wrapped.onnx"
    assert wrap in commands()
    model = onnx.load(root / "model_repository" / "pem_network" / "1" / "model.onnx")
    with_the_sdks_tensors(model.graph)
    onnx.save(model, folder / "model.onnx")
    assert run(root, folder, wrap) == "wrapped.onnx\n"


def with_the_sdks_tensors(graph: onnx.GraphProto) -> None:
    """Planes of floats in; class ids, index map and scores out, in this order."""
    shape = ["batch", 3, 640, 640]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    nodes = [
        helper.make_node("Transpose", ["images"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["pixels"], ["image"], to=TensorProto.UINT8),
        *graph.node,
    ]
    class_ids, scores, masks = list(graph.output)
    for field in (graph.input, graph.output, graph.node):
        del field[:]
    graph.input.append(images)
    graph.output.extend([class_ids, masks, scores])
    graph.node.extend(nodes)


def test_a_load_is_sent_and_judged(root: Path, folder: Path) -> None:
    load = "./run loadtest --rate 2"
    ladder = (
        "./run loadtest --shape ladder --rate 4 --latency-goal 1000 --capacity-file capacity.env"
    )
    assert {"./run serve --stand-in 20:5", load, ladder} <= set(commands())
    with served(root, "--stand-in=20:5") as addresses:
        where = f"--host {addresses['gRPC']} --metrics {addresses['metrics']}"
        short = "--seconds 3 --warm-up 0 --latency-goal 5000 --lateness-limit 2000"
        run(root, folder, f"{load} {short} {where} --output one")
        assert (folder / "one" / "report.json").is_file()
        # What lies above --highest-rate is a goal missed: enough to see the command work.
        more = f"{short} --highest-rate 8 --tolerance 0.5 {where} --output two"
        words = [root / "run", *shlex.split(f"{ladder} {more}")[1:]]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert "above --highest-rate" in done.stdout + done.stderr


def test_no_other_commands_stand_in_the_readme() -> None:
    verbs = [shlex.split(command)[1] for command in commands() if command.startswith("./run ")]
    assert sorted(set(verbs)) == [
        "bench", "demo", "engine", "evaluate", "export", "fleet-test", "import-weights",
        "loadtest", "segment", "serve", "simulate", "train", "wrap-onnx",
    ]  # fmt: skip
    # tests/deploy asks Docker's compose about these, and tests/fleet runs fleet-test and simulate.
    others = [command for command in commands() if not command.startswith("./run ")]
    assert others == [
        "docker compose --profile t4 up --build",
        "docker compose --profile cpu up",
        "docker compose --profile cpu run --rm locust --rate 2",
    ]
    assert len(commands()) == 27


@pytest.mark.parametrize("snippet", blocks("python"))
def test_a_snippet_finds_the_street(
    root: Path, server: TritonServer, tmp_path: Path, snippet: str
) -> None:
    code = re.sub(r"127\.0\.0\.1:8001", server.grpc_url, snippet)
    code = code.replace("docs/street.jpg", str(root / "docs" / "street.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sky" in done.stdout


def test_every_folder_of_the_project_is_in_the_tree(root: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line}
    for folder in sorted(folders - {".ci"}):
        assert f"\n{folder}/ " in README, f"{folder}/ is missing in the README's tree"
