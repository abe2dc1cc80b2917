"""The rules of the house: rooms on floors, files and functions of a size, names and prose."""

from __future__ import annotations

from pathlib import Path

from house import ROOT, House

from ttt.storage.run_folder import RunFolder

HOUSE = House(ROOT)


def test_rooms_stand_on_floors_and_imports_point_down():
    assert HOUSE.loose() == []
    assert HOUSE.upward() == []
    assert HOUSE.circles() == []
    # A source or a task is one of many: only a YAML names it. What a model knew before the stream
    # (tasks/known.py) is one thing, and `run` asks for it.
    assert [room for room, target in HOUSE.arrows if target == "tasks"] == ["run"]


def test_no_file_or_function_grows_out_of_hand():
    assert HOUSE.oversized() == []
    assert HOUSE.open_signatures() == []


def test_a_variable_says_what_it_holds():
    assert HOUSE.filler() == []


def test_the_files_of_a_run_are_named_in_one_place():
    folder = RunFolder(Path())
    paths = [getattr(folder, name) for name in vars(RunFolder)]
    files = {path.name for path in paths if isinstance(path, Path) and path.suffix}
    assert {"config.yaml", "results.json"} < files
    assert HOUSE.literals(files, owner="ttt.storage.run_folder") == []


def test_a_public_name_means_one_thing():
    places = HOUSE.shared_names()
    shared = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert len(shared) / len(places) < 0.02, shared


def test_prose_is_there_and_fits_on_a_page():
    lines, comments = HOUSE.lines()
    assert 0.04 < comments / lines < 0.09
    assert HOUSE.wide_prose() == []
