"""The documentation names what there is: commands, options, files, folders, alerts, metrics."""

import argparse
import importlib
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# What each command of `run` starts, from its own table.
COMMANDS = dict(re.findall(r"^([a-z-]+)\|\w+\|(.*?)\|", (ROOT / "run").read_text(), re.MULTILINE))
WITHOUT_PARSER = {"lint", "lock", "test"}
LOCUST_OPTIONS = {"--processes", "--master", "--worker"}


class Parsed(BaseException):
    """The program has accepted its command line and would begin."""


@pytest.fixture
def stop_when_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program raises Parsed where its outermost parser has finished."""
    original = argparse.ArgumentParser.parse_known_args
    depth = 0

    def parse(*arguments: Any) -> Any:  # parse_args and a subparser call it, too
        nonlocal depth
        depth += 1
        _, unknown = parsed = original(*arguments)
        depth -= 1
        if depth:
            return parsed
        assert not unknown or unknown[0] in LOCUST_OPTIONS
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)


@pytest.mark.usefixtures("stop_when_parsed")
def test_the_command_accepts_a_documented_line(command_line, load_source, capsys):
    _, name, *arguments = shlex.split(command_line[command_line.index("./run ") :])
    if name in WITHOUT_PARSER or name.startswith("-"):
        return
    source, *words = COMMANDS[name].split()
    if source == "-m":
        module, *first = words
        program = importlib.import_module(module if "." in module else f"{module}.cli")
    else:
        program, first = load_source(ROOT / source), []
    with pytest.raises(Parsed):
        program.main([*first, *arguments])
    assert "warning" not in capsys.readouterr().err  # of an option's old name


def test_every_command_is_documented(documented):
    listing = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^ +\./run ([a-z-]+) ", listing, re.MULTILINE)) == COMMANDS.keys()
    lines = {line.split()[1] for line in documented if line.startswith("./run ")}
    assert COMMANDS.keys() - lines == set()


def test_a_page_has_blocks_that_the_shell_understands(page):
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def tracked() -> list[str]:
    return subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()


def test_a_page_names_files_that_exist(page):
    """Paths in code that begin with a folder of the repository."""
    folders = "|".join(sorted({path.split("/")[0] for path in tracked() if "/" in path}))
    text = re.sub(r"\s#.*", "", page.read_text())
    named = re.findall(rf"`(?:[^`\n]* )?((?:{folders})/[^`\s,:]*)`", text)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        named += re.findall(rf"(?:^|\s)((?:{folders})/\S*)", block)
    for path in named:
        is_pattern = re.search(r"[*{$]|\b[A-Z]+\b(?!\.md)", path)  # capitals: the reader's own
        assert is_pattern or (page.parent / path).exists() or (ROOT / path).exists(), path


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each relative link."""
    relative = re.findall(r"\]\((?!\w+://)([^)\s#]*)#?([^)\s]*)\)", page.read_text())
    return [((page.parent / path if path else page).resolve(), anchor) for path, anchor in relative]


def test_a_page_links_to_what_there_is(page):
    for target, anchor in links(page):
        assert target.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text().lower(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", s).replace(" ", "-") for s in headings]


def reachable(page: Path, seen: set[Path]) -> set[Path]:
    if page not in seen and page.suffix == ".md":
        seen.add(page)
        for target, _ in links(page):
            reachable(target, seen)
    return seen


def test_the_readme_leads_to_every_page():
    pages = {ROOT / path for path in tracked() if path.endswith(".md")}
    pages = {page for page in pages if page.is_relative_to(ROOT / "docs") or page.parent == ROOT}
    assert pages - reachable(ROOT / "README.md", set()) == set()


def test_every_folder_is_in_the_readme_or_the_architecture():
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/architecture.md"))
    folders = {path.split("/")[0] for path in tracked() if "/" in path and path[0] != "."}
    assert [name for name in sorted(folders) if f"{name}/" not in text] == []


def test_the_operations_page_knows_every_alert_and_metric():
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "rules.yml").read_text())
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in every if "alert" in rule}
    page = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(Pem[A-Za-z]+)`", page)) == alerts
    folders = r"(model_repository|server|gateway)/.*\.py$"
    text = "".join((ROOT / path).read_text() for path in tracked() if re.match(folders, path))
    pattern = r"pem_(?:images_total|gateway_\w+|\w+_seconds|\w+_per_image|image_pixels)"
    assert set(re.findall(rf'"({pattern})"', text)) == set(re.findall(rf"`({pattern})", page))
