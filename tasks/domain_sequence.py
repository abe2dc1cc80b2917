"""`domain-sequence`: whole corpora in the order that was typed; what no domain takes is the base.

    task.domains=[prose,code,tables,languages/mlt]     of source=corpora
    task.domains=[deu_1996,fra,cmn_hans]               of source=languages

A domain is every class that is called so, or whose name goes on with a slash or a blank behind it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from ttt.stream import Ints, Source, Stream
from ttt.tasks.machinery.cut import BASE, LEARN, View
from ttt.tasks.machinery.settings import StreamSettings


@dataclass(frozen=True, kw_only=True)
class DomainSequence(StreamSettings):
    """Arguments are explained in conf/task/domain-sequence.yaml."""

    domains: list[str] | None

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        if len(source.labels):
            raise ValueError(f"task=domain-sequence: source={source.name} holds labelled examples; it needs corpora")
        scenario = self.pick_scenario(allowed=("domain",), why="all tokens compete in running text")
        names, groups = self._domains(source)
        tasks = [
            self.task([View(source=source, classes=group)], name=name, key=[seed, LEARN, i])
            for i, (name, group) in enumerate(zip(names, groups, strict=True))
        ]
        taken = set(np.concatenate(groups).tolist())
        rest = np.array([c for family in source.families() if not taken & set(family) for c in family], dtype=np.int64)
        base = self.base([View(source=source, classes=rest)], base_seed=base_seed, key=BASE)
        return self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)

    def _domains(self, source: Source) -> tuple[list[str], list[Ints]]:
        called = [source.class_name(c) for family in source.families() for c in family]
        index = np.array([c for family in source.families() for c in family])
        if self.domains is None:
            first = [family[0] for family in source.families()][: self.num_tasks]
            return [source.class_name(c) for c in first], [np.array([c]) for c in first]
        groups = []
        for name in self.domains:
            members = [c == name or c.startswith((name + "/", name + " ")) for c in called]
            if not any(members):
                raise ValueError(
                    f"task.domains={name}: source={source.name} has no such class; {_nearest(name, called)}"
                )
            groups.append(np.sort(index[members]))
        return list(self.domains), groups


def _nearest(name: str, called: list[str]) -> str:
    heads = sorted({word for c in called for word in (c, c.split(" ")[0], c.split("/")[0])})
    near = difflib.get_close_matches(name, heads, n=1, cutoff=0.4)
    some = ", ".join(heads[:8]) + (", ..." if len(heads) > 8 else "")
    return (f"did you mean {near[0]}? " if near else "") + f"it has {some}"
