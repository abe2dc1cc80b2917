"""The shape of the code, read from its imports: rooms, floors, arrows, circles, names and comments.

    python tests/guards/house.py            what this checkout looks like
    python tests/guards/house.py DIR        what another one looks like

A room is a folder of `ttt/`, or `kernels`, `tasks` and `cli`. A room may import rooms on the floors
below its own and no others; imports for types and imports inside functions count like all others.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# From the ground up.
FLOORS: list[set[str]] = [
    {"kernels"},
    {"stream", "config", "metrics", "models", "optimizers"},
    {"results", "devices", "prompts", "figures", "tasks"},
    {"adapters", "storage"},
    {"learner", "compare", "sinks"},
    {"strategies", "objectives", "probes", "report", "claims", "serving"},
    {"training", "requests"},
    {"evaluation", "bases"},
    {"run"},
    {"export", "promises"},
    {"cli"},
    # What `import ttt` offers calls the commands.
    {"api"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The stream's nouns are all that the tasks may use.
ONLY = {"tasks": {"stream"}}
# Rooms from whose imports torch must stay away: a comparison of a thousand runs loads in seconds.
LIGHT = ("compare", "claims", "results", "config", "report")
FILLER = {"found", "own", "told", "made", "kept", "asked", "known", "one", "given"}


@dataclass(frozen=True)
class House:
    """The files of a checkout by their module names, and what each imports."""

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        modules = {}
        for folder in ("ttt", "cli", "tasks", "kernels"):
            for path in sorted((self.root / folder).rglob("*.py")):
                parts = list(path.relative_to(self.root).with_suffix("").parts)
                parts = parts if parts[0] == "ttt" else ["ttt", *parts]
                modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return modules

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {module: ast.parse(path.read_text()) for module, path in self.files.items()}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """module -> our modules that it imports; a name of a package counts as the package."""
        edges: dict[str, set[str]] = {}
        for module, tree in self.trees.items():
            edges[module] = {x for x in _imported(tree) if x in self.files and x != module}
        return edges

    @cached_property
    def arrows(self) -> set[tuple[str, str]]:
        """(room, room that it imports)"""
        pairs = {(room_of(a), room_of(b)) for a, targets in self.imports.items() for b in targets}
        return {(a, b) for a, b in pairs if a != b and b}

    @property
    def rooms(self) -> set[str]:
        return {room_of(module) for module in self.files} - {""}

    def loose(self) -> list[str]:
        """Files of ttt/ that lie in no room."""
        allowed = {"__init__.py", "__main__.py", "py.typed"}
        return sorted(path.name for path in (self.root / "ttt").glob("*.py") if path.name not in allowed)

    def upward(self) -> list[str]:
        """Arrows that do not point down."""
        wrong = []
        for a, b in sorted(self.arrows):
            allowed = b in ONLY[a] if a in ONLY else FLOOR.get(b, 99) < FLOOR.get(a, 0)
            if a and not allowed:
                wrong.append(f"{a} -> {b}")
        return wrong

    def circles(self) -> list[list[str]]:
        """Sets of files that import each other, directly or through others."""
        return sorted(sorted(group) for group in _strong_components(self.imports) if len(group) > 1)

    def shared_names(self) -> dict[str, list[str]]:
        """Public classes and functions that several modules define under one name."""
        places: dict[str, set[str]] = defaultdict(set)
        for module, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add(module)
        return {name: sorted(modules) for name, modules in places.items() if name != "main"}

    def filler(self) -> list[str]:
        """Variables whose name says nothing, as file:line name."""
        return [
            f"{self.files[module].relative_to(self.root)}:{node.lineno} {node.id}"
            for module, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in FILLER
        ]

    def literals(self, names: set[str], *, owner: str) -> list[str]:
        """Where a module other than `owner` spells a file name out; prose may hold it."""
        return [
            f"{self._name(self.files[module])}:{node.lineno} {node.value}"
            for module, tree in self.trees.items()
            for node in ast.walk(tree)
            if module != owner and isinstance(node, ast.Constant) and isinstance(node.value, str)
            if node.value.rsplit("/")[-1] in names
        ]

    def oversized(self, *, lines: int = 250, length: int = 45) -> list[str]:
        """Files, tests too, of more than `lines` lines, and functions of `length` lines or more."""
        paths = [*self.files.values(), *sorted((self.root / "tests").rglob("*.py"))]
        large = [path for path in paths if path.read_text().count("\n") > lines]
        return [self._name(path) for path in large] + [
            f"{self._name(self.files[module])}: {node.name}"
            for module, node in self._functions()
            if (node.end_lineno or 0) - node.lineno >= length
        ]

    def open_signatures(self) -> list[str]:
        """Functions that take **keywords, whose names no reader and no type checker knows."""
        return [f"{self._name(self.files[module])}: {f.name}" for module, f in self._functions() if f.args.kwarg]

    def wide_prose(self, *, width: int = 100) -> list[str]:
        """Lines of docstrings and comments, in Python and YAML, that are wider than `width`."""
        wide = []
        for path in (*self.files.values(), *sorted((self.root / "conf").rglob("*.yaml"))):
            lines = path.read_text().splitlines()
            prose = {k for k, line in enumerate(lines) if line.lstrip().startswith("#")}
            prose |= _docstring_lines(ast.parse(path.read_text())) if path.suffix == ".py" else set()
            wide += [f"{self._name(path)}:{k + 1}" for k in sorted(prose) if len(lines[k]) > width]
        return wide

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _functions(self) -> Iterator[tuple[str, ast.FunctionDef]]:
        for module, tree in self.trees.items():
            yield from ((module, node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))

    def lines(self) -> tuple[int, int]:
        """(lines, comments) of all files."""
        sources = [path.read_text() for path in self.files.values()]
        tokens = (t for source in sources for t in tokenize.generate_tokens(io.StringIO(source).readline))
        return sum(s.count("\n") for s in sources), sum(t.type == tokenize.COMMENT for t in tokens)


def room_of(module: str) -> str:
    """`adapters` for ttt.adapters.base, "" for the package itself and `python -m ttt`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else ""


def _docstring_lines(tree: ast.Module) -> set[int]:
    """The lines (from 0) of all docstrings of a module."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    owners = (node for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node))
    return {k for node in owners for k in range(node.body[0].lineno - 1, node.body[0].end_lineno or 0)}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _strong_components(edges: dict[str, set[str]]) -> list[set[str]]:
    """Kosaraju: depth first on the graph, then on its reverse in the order of leaving."""
    order: list[str] = []
    seen: set[str] = set()

    def leave(start: str, graph: dict[str, set[str]], into: list[str]) -> None:
        stack = [(start, iter(sorted(graph[start])))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            step = next((x for x in rest if x not in seen), None)
            if step is None:
                into.append(node)
                stack.pop()
            else:
                seen.add(step)
                stack.append((step, iter(sorted(graph[step]))))

    for node in edges:
        if node not in seen:
            leave(node, edges, order)
    back: dict[str, set[str]] = {node: set() for node in edges}
    for node, targets in edges.items():
        for target in targets:
            back[target].add(node)
    seen.clear()
    groups = []
    for node in reversed(order):
        if node not in seen:
            group: list[str] = []
            leave(node, back, group)
            groups.append(set(group))
    return groups


def main() -> None:
    house = House(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
    lines, comments = house.lines()
    names = house.shared_names()
    several = [name for name, modules in names.items() if len(modules) > 1]
    floors = len({FLOOR[room] for room in house.rooms if room in FLOOR})
    print(f"rooms     {len(house.rooms)} on {floors} floors, {len(house.arrows)} arrows")
    print(f"loose     {len(house.loose())} {' '.join(house.loose())}")
    print(f"upward    {len(house.upward())} {', '.join(house.upward())}")
    print(f"circles   {len(house.circles())} {[len(group) for group in house.circles()]}")
    print(f"names     {len(several)} of {len(names)} public names in several modules ({len(several) / len(names):.1%})")
    print(f"filler    {len(house.filler())}")
    print(f"oversized {len(house.oversized())} {', '.join(house.oversized())}")
    print(f"wide      {len(house.wide_prose())} lines of prose")
    print(f"comments  {comments} in {lines} lines ({comments / lines:.1%})")


if __name__ == "__main__":
    main()
