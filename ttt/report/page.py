"""Render a page as HTML. Templates escape all text, because a task's name may be hostile."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ttt.report.heatmap import Heat, palette

# Where a template wants the list of its sections.
CONTENTS = "<!--contents-->"


@cache
def _templates() -> Environment:
    # Escape in every template: jinja2's choice by suffix would leave the SVG templates unescaped.
    # With StrictUndefined a missing name raises, in place of an empty spot on the page.
    environment = Environment(
        loader=PackageLoader("ttt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["heat_svg"] = lambda heat: Markup(heat_svg(heat))
    return environment


def render(template: str, content: Mapping[str, Any]) -> str:
    """Return the whole page as text."""
    variables = {"palette": palette(), "today": time.strftime("%Y-%m-%d %H:%M"), **content}
    return with_contents(_templates().get_template(template).render(variables))


def with_contents(text: str) -> str:
    """Fill in the list of the page's sections, from their headings."""
    headings = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', text)
    links = "".join(
        f'<li{" class=stream" if name.startswith("about") else ""}><a href="#{name}">{title}</a></li>'
        for name, title in headings
    )
    # Only the first one is replaced: a task's text that holds the same words is left alone.
    return text.replace(CONTENTS, f'<nav aria-label="contents"><ol>{links}</ol></nav>', 1)


def heat_svg(heat: Heat) -> str:
    return _templates().get_template("heat.svg").render(heat=heat, palette=palette())


def write_plots(folder: Path, svgs: Mapping[str, str]) -> None:
    """Write the pictures of a page to files: `svgs` maps names to SVG text."""
    folder.mkdir(exist_ok=True)
    for name, svg in svgs.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
