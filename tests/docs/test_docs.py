"""The documentation names what there is: commands, options, files, folders, alerts, metrics."""

import argparse
import importlib
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Command: its module or file, and the arguments that `./run` puts first.
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "bench": ("pem_bench.cli", []),
    "chaos": ("pem_gateway.cli", ["chaos"]),
    "demo": ("pem_gateway.cli", ["demo"]),
    "engine": ("build/build_engine.py", []),
    "evaluate": ("pem_training.evaluate", []),
    "export": ("build/export_onnx.py", []),
    "fleet-test": ("pem_fleet.cli", ["fleet-test"]),
    "import-weights": ("build/import_weights.py", []),
    "loadtest": ("pem_loadtest.cli", []),
    "segment": ("pem_client.cli", ["segment"]),
    "serve": ("pem_gateway.cli", ["serve"]),
    "simulate": ("pem_fleet.cli", ["simulate"]),
    "train": ("pem_training.train", []),
    "wrap-onnx": ("build/wrap_focoos.py", []),
}
WITHOUT_PARSER = {"lint", "lock", "test"}
LOCUST_OPTIONS = {"--processes", "--master", "--worker"}


class Parsed(BaseException):
    """The program has accepted its command line and would begin."""


@pytest.fixture
def stop_when_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program raises Parsed where its outermost parser has finished."""
    depth = 0

    def stopping(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                parsed = original(*arguments)
            finally:
                depth -= 1
            if depth:
                return parsed
            unknown = parsed[1] if isinstance(parsed, tuple) else []
            assert {word for word in unknown if word.startswith("-")} <= LOCUST_OPTIONS
            raise Parsed

        return parse

    for name in ("parse_args", "parse_known_args"):
        original = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(original))


def program(name: str, load_source: Callable[[Path], ModuleType]) -> Callable[..., int]:
    """The `main` of a command."""
    source = PROGRAMS[name][0]
    is_file = source.endswith(".py")
    module = load_source(ROOT / source) if is_file else importlib.import_module(source)
    return module.main


@pytest.mark.usefixtures("stop_when_parsed")
def test_the_command_accepts_a_documented_line(
    command_line: str,
    load_source: Callable[[Path], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, name, *arguments = shlex.split(command_line[command_line.index("./run ") :])
    if name in WITHOUT_PARSER or name.startswith("-"):
        return
    with pytest.raises(Parsed):
        program(name, load_source)([*PROGRAMS[name][1], *arguments])
    assert "warning" not in capsys.readouterr().err  # of an option's old name


def listed_commands() -> list[str]:
    listing = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^\s+(?:\./run )?([a-z-]+)\s{2,}\S", listing, re.MULTILINE)


def test_every_command_is_documented_and_can_be_parsed(documented: set[str]) -> None:
    commands = set(listed_commands())
    assert commands - WITHOUT_PARSER == PROGRAMS.keys()
    lines = {line.split()[1] for line in documented if line.startswith("./run ")}
    assert commands - lines == set()


def test_a_page_has_blocks_that_the_shell_understands(page: Path) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listing.stdout.splitlines()


def test_a_page_names_files_that_exist(page: Path) -> None:
    """Paths in code that begin with a folder of the repository."""
    folders = "|".join(sorted({path.split("/")[0] for path in tracked() if "/" in path}))
    text = re.sub(r"\s#.*", "", page.read_text())
    named = re.findall(rf"`(?:[^`\n]* )?((?:{folders})/[^`\s,:]*)`", text)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        named += re.findall(rf"(?:^|\s)((?:{folders})/\S*)", block)
    for path in named:
        is_pattern = re.search(r"[*{$]|\b[A-Z]+\b(?!\.md)", path)  # capitals: the reader's own
        assert is_pattern or (page.parent / path).exists() or (ROOT / path).exists(), path


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each relative link."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    relative = [link.partition("#") for link in found if "://" not in link]
    return [((page.parent / path if path else page).resolve(), to) for path, _, to in relative]


def test_a_page_links_to_what_there_is(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def reachable(page: Path, seen: set[Path]) -> set[Path]:
    if page not in seen and page.suffix == ".md":
        seen.add(page)
        for target, _ in links(page):
            reachable(target, seen)
    return seen


def test_the_readme_leads_to_every_page() -> None:
    pages = {ROOT / path for path in tracked() if path.endswith(".md")}
    pages = {page for page in pages if page.is_relative_to(ROOT / "docs") or page.parent == ROOT}
    assert pages - reachable(ROOT / "README.md", set()) == set()


def test_every_folder_is_in_the_readme_or_the_architecture() -> None:
    pages = (ROOT / "README.md", ROOT / "docs" / "architecture.md")
    text = "".join(page.read_text() for page in pages)
    folders = {path.split("/")[0] for path in tracked() if "/" in path}
    missing = [name for name in sorted(folders) if f"{name}/" not in text]
    assert [name for name in missing if not name.startswith(".")] == []


def documented_names(pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / "docs" / "operations.md").read_text()))


def test_the_operations_page_knows_every_alert_and_metric() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "rules.yml").read_text())
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in every if "alert" in rule}
    assert documented_names(r"`(Pem[A-Za-z]+)`") == alerts
    sources = [
        path for path in tracked() if re.match(r"(model_repository|server|gateway)/.*\.py$", path)
    ]
    text = "".join((ROOT / path).read_text() for path in sources)
    pattern = r"pem_(?:images_total|gateway_\w+|\w+_seconds|\w+_per_image|image_pixels)"
    assert set(re.findall(rf'"({pattern})"', text)) == documented_names(rf"`({pattern})")
