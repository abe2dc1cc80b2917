"""What others read of the small files of a run folder: their keys, and of what kinds these are."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Section(TypedDict, total=False):
    """What a part is called, in the section of its group."""

    name: str


class Config(TypedDict):
    """config.yaml; the arguments of a part are for its class to check."""

    seed: int
    task: Section
    output_dir: NotRequired[str]
    cache_dir: NotRequired[str]
    adapter: NotRequired[Section]
    base: NotRequired[Section]
    eval: NotRequired[dict[str, Any]]
    logger: NotRequired[Section]
    model: NotRequired[Section]
    optimizer: NotRequired[Section]
    source: NotRequired[Section]
    strategy: NotRequired[Section]
    trainer: NotRequired[dict[str, Any]]


class Status(TypedDict):
    """status.json, which also holds what the run took: numbers by the keys of COSTS."""

    status: str
    reason: NotRequired[str]
    time: NotRequired[str]
    tokens: NotRequired[int]


class Data(TypedDict, total=False):
    """Fingerprints of what a run read, and how much there was of it."""

    source: str
    rows: dict[str, int]
    base: str | None
    tasks: list[str]


class Environment(TypedDict, total=False):
    """environment.json; earlier versions wrote less of it."""

    versions: dict[str, str]
    code: str
    git: str | None
    platform: str
    cpu_count: int | None
    threads: int
    device: str
    data: Data
    command: list[str]
    causal: str
    base: dict[str, float | str]
    group: str


class Sample(TypedDict):
    """A text of samples.json: what the sequences of a task look like."""

    task: str
    text: str


class Written(TypedDict):
    """A line of samples.jsonl: what the model wrote on `task` (from 0) after row `row` of R."""

    row: int
    task: int
    task_name: str
    mode: str
    opening: str
    text: str
