"""`domain-sequence`: whole corpora in the order that was typed; the other classes are the base.

    task.domains=[prose,code,tables,languages/mlt]     of source=corpora
    task.domains=[deu_1996,fra,cmn_hans]               of source=languages

A domain is every class of that name, or whose name continues with a slash or a blank after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttt.stream import Ints, Source, Stream
from ttt.tasks.machinery.cut import BASE, LEARN, SourceView
from ttt.tasks.machinery.hints import name_meant, some
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
            self.task([SourceView(source=source, classes=group)], name=name, key=[seed, LEARN, i])
            for i, (name, group) in enumerate(zip(names, groups, strict=True))
        ]
        # A family with a class in a domain stays out of the base as a whole: relatives share text.
        taken = set(np.concatenate(groups).tolist())
        rest = np.array([c for family in source.families() if not taken & set(family) for c in family], dtype=np.int64)
        base = self.base([SourceView(source=source, classes=rest)], base_seed=base_seed, key=BASE)
        return self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)

    def _domains(self, source: Source) -> tuple[list[str], list[Ints]]:
        """Return the name and the classes of each domain."""
        if self.domains is None:
            first = [family[0] for family in source.families()][: self.num_tasks]
            if self.num_tasks is not None and len(first) < self.num_tasks:
                raise ValueError(
                    f"task.num_tasks={self.num_tasks}: source={source.name} has only {len(first)} unrelated classes; "
                    f"type task.num_tasks={len(first)}, or name task.domains"
                )
            return [source.class_name(c) for c in first], [np.array([c]) for c in first]
        index = np.array([c for family in source.families() for c in family])
        names = [source.class_name(c) for c in index.tolist()]
        groups = []
        for domain in self.domains:
            members = [name == domain or name.startswith((domain + "/", domain + " ")) for name in names]
            if not any(members):
                raise ValueError(
                    f"task.domains={domain}: source={source.name} has no such class; {_nearest(domain, names)}"
                )
            groups.append(np.sort(index[members]))
        return list(self.domains), groups


def _nearest(domain: str, names: list[str]) -> str:
    """Suggest a domain that exists, and list some."""
    heads = sorted({head for name in names for head in (name, name.split(" ")[0], name.split("/")[0])})
    return f"{name_meant(domain, heads, cutoff=0.4)}it has {some(heads)}"
