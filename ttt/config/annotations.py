"""The annotations of a class of ours, read from its source: importing it would load torch.

    rule: Literal["hebb", "delta"]       evaluated as it stands
    lr: Rate                             Rate is looked up where the module has it from

What cannot be read this way is left out; `ttt.config.build` checks it again when it builds.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import annotated_types

from ttt.config.allowed import refusal
from ttt.config.messages import show

WORDS: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal")},
    **{name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Lt", "Interval")},
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
}


def check_values(config: Mapping[str, Any]) -> None:
    """Raise ValueError, in the words of `build`, for a value that its class does not take."""
    for group, section in config.items():
        target = section.get("_target_") if isinstance(section, Mapping) else None
        if isinstance(target, str) and target.startswith("ttt."):
            # Parts of the user's own are checked when they are built, with their modules imported.
            hints = hints_of(target)
            for key in section.keys() & hints.keys():
                why = refusal(section[key], hints[key])
                if why:
                    raise ValueError(f"{group}.{key}={show(section[key])}: {why}")


@cache
def hints_of(target: str) -> Mapping[str, Any]:
    """Argument -> annotation, of the class at a dotted path; empty where there is none."""
    module, _, name = target.rpartition(".")
    return dict(_of_class(module, name))


def _of_class(module: str, name: str) -> dict[str, Any]:
    body = _statements(module)
    node = body.get(name)
    # The module only imports the name.
    if isinstance(node, str):
        return _of_class(node, name)
    if not isinstance(node, ast.ClassDef):
        return {}
    inits = [x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"]
    if inits:
        arguments = [*inits[0].args.args, *inits[0].args.kwonlyargs]
        pairs = [(x.arg, x.annotation) for x in arguments if x.annotation]
        inherited: dict[str, Any] = {}
    else:
        # Fields of a dataclass, and those of its bases; or the arguments of the base's __init__.
        pairs = [(x.target.id, x.annotation) for x in node.body if isinstance(x, ast.AnnAssign)
                 if isinstance(x.target, ast.Name)]  # fmt: skip
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        inherited = {key: hint for base in bases for key, hint in _of_class(module, base).items()}
    return inherited | {key: hint for key, node in pairs for hint in _evaluated(module, node)}


def _evaluated(module: str, node: ast.expr) -> list[Any]:
    """The value of an annotation, in a list that is empty where it cannot be known."""
    names = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)} - WORDS.keys()
    meanings = {name: _named(module, name) for name in names}
    # One unknown word is enough: a half-read annotation would refuse what is allowed.
    if not all(meanings.values()):
        return []
    local = {name: values[0] for name, values in meanings.items()}
    try:
        # Only words of WORDS and what our own modules say of others.
        return [eval(compile(ast.Expression(node), module, "eval"), {"__builtins__": {}}, WORDS | local)]
    except (AttributeError, NameError, TypeError):
        return []


def _named(module: str, name: str) -> list[Any]:
    """What a name in a module stands for, if that is an annotation; else an empty list."""
    node = _statements(module).get(name)
    if isinstance(node, str):
        return _named(node, name)
    return _evaluated(module, node) if isinstance(node, ast.expr) else []


@cache
def _statements(module: str) -> dict[str, ast.ClassDef | ast.expr | str]:
    """name -> the class or value that a module gives it, or the module of ours that it is from."""
    file = _file(module)
    tree = ast.parse(file.read_text()) if file else ast.Module([], [])
    meanings: dict[str, ast.ClassDef | ast.expr | str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            meanings[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            meanings[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ttt."):
            meanings |= {alias.asname or alias.name: node.module for alias in node.names}
    return meanings


def _file(module: str) -> Path | None:
    """The source of a module of ours; folders beside `ttt` are found as Python finds them."""
    parts = module.split(".")[1:]
    root = Path(__file__).parents[1]
    if not (root / parts[0]).is_dir():
        spec = find_spec(f"ttt.{parts[0]}")
        if spec is None or not spec.submodule_search_locations:
            return None
        root = Path(spec.submodule_search_locations[0])
        parts = parts[1:]
    place = root.joinpath(*parts)
    files = [place.with_suffix(".py"), place / "__init__.py"]
    return next((file for file in files if file.is_file()), None)
