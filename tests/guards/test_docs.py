"""The docs name what exists: files, links, anchors, pages; and their code can be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import ROOT, anchors, blocks, links, name_of, pages

# Words in capitals stand for a name of the reader's choice.
PATH = re.compile(r"`((?:ttt|tasks|cli|conf|kernels|tests|docs)/[a-z0-9_./-]+)`")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The generated pages."""
    folder = tmp_path_factory.mktemp("site") / "reference"
    command = [sys.executable, str(ROOT / "docs" / "generator" / "reference.py"), str(folder)]
    # The script finds its modules beside itself, which the tests' own setting forbids.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    subprocess.run(command, check=True, env=environment)
    return folder


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_paths_in_the_docs_exist(page):
    names = PATH.findall(page.read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_links_and_anchors_lead_somewhere(reference):
    generated = {ROOT / "docs" / "reference" / path.name: path for path in reference.glob("*.md")}
    texts = {page: page.read_text() for page in pages()} | {page: path.read_text() for page, path in generated.items()}
    broken = []
    for page, text in texts.items():
        for link in links(text):
            target, _, anchor = link.partition("#")
            file = (page.parent / target).resolve() if target else page
            if (file not in texts and not file.exists()) or (anchor and anchor not in anchors(texts.get(file, ""))):
                broken.append(f"{name_of(page)}: {link}")
    assert broken == []


def test_every_page_is_in_the_navigation_of_the_site(reference):
    listed = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]))
    written = {name_of(page).removeprefix("docs/") for page in pages()} - {
        page.name for page in pages() if page.parent == ROOT
    }
    assert listed == written | {f"reference/{path.name}" for path in reference.glob("*.md")}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_snippets_can_be_read(page):
    for block in blocks(page.read_text()):
        if block.language == "python" or (not block.language and re.match(r"(import|from) ", block.text)):
            compile(block.text, f"{name_of(page)} {block.title}", "exec")
        if block.language == "yaml":
            yaml.safe_load(block.text)


def test_the_reference_has_every_setting_and_metric(reference):
    adapters, metrics = (reference / "adapter.md").read_text(), (reference / "metrics.md").read_text()
    assert "| `adapter.rule` | `hebb` | one of hebb, delta, " in adapters
    assert "`forgetting_max_seen`" in metrics
    assert "--baseline KEY=VALUE" in (reference / "commands.md").read_text()
    assert "ttt.open_run(" in (reference / "python.md").read_text()


def test_the_commands_of_make_are_there():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^    make ([a-z]+)", readme, re.MULTILINE))
    assert {"run", "test"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
