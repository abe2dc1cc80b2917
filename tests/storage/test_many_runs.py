"""Files of a thousand runs are read quickly, and as carefully as those of one."""

from __future__ import annotations

import gc
import json

import pytest
import yaml
from fake_runs import make_run

from ttt.compare.runs import uncollected
from ttt.config.identity import digest
from ttt.config.loader import yaml_loader
from ttt.results.saved import as_json
from ttt.storage.read import _content, read_config, read_results
from ttt.storage.whole import SEAL, write_results


@pytest.fixture
def sealed(tmp_path):
    """The folder of a run whose results.json has its hash."""
    run = make_run(tmp_path, tasks=3, journal=False)
    write_results(run / "results.json", read_results(run))
    return run


def test_results_that_nobody_touched_need_no_checks(sealed, monkeypatch):
    whole = as_json(read_results(sealed))
    monkeypatch.setattr("ttt.storage.whole.check_seal", lambda content: pytest.fail("checked"))
    monkeypatch.setattr("ttt.results.saved.mismatch", lambda content, kind: pytest.fail("checked"))
    assert as_json(read_results(sealed)) == whole


def test_another_layout_is_no_change_and_another_number_is(sealed):
    file = sealed / "results.json"
    content, whole = json.loads(file.read_text()), as_json(read_results(sealed))
    earlier = {key: value for key, value in content.items() if key != SEAL}
    for alike in (content, earlier, earlier | {SEAL: digest(earlier)}):
        file.write_text(json.dumps(alike))
        assert as_json(read_results(sealed)) == whole
    text = json.dumps(content, indent=2)
    for other in (text.replace('"phases": 3', '"phases": 4'), text.replace(content[SEAL], "0" * 64)):
        assert other != text
        file.write_text(other)
        with pytest.raises(ValueError, match=r"results\.json: changed"):
            read_results(sealed)


@pytest.mark.parametrize(
    "text",
    [
        "seed: 1\nadapter:\n  name: none\n  rates:\n  - 1e-4\n  - 2020-01-01\ntask: null\n",
        "a: 1\na: 2\nb: {c: 3}\n",
        "a: &x [1, 2]\nb: *x\n",
        "a: 'several\nb: lines'\nc: 1\n",
        "a: |\n  b: 1\n\n  c\nd: 2\n",
        "# said\na: 1\n",
        "---\na: 1\n",
        "a:\n- 1\n- b: 2\nc: x\n  y\n",
        "[1, 2]",
        "",
        "a: 1\nb: [\n",
    ],
)
def test_a_config_read_by_sections_is_what_it_is_as_a_whole(text):
    try:
        whole = yaml.load(text, Loader=yaml_loader())
    except yaml.YAMLError:
        with pytest.raises(yaml.YAMLError):
            _content(text.encode())
        return
    # In this order too: it is that of a table's keys.
    assert repr(_content(text.encode())[0]) == repr(whole)


def test_whoever_changes_a_config_changes_no_other(sealed):
    config = read_config(sealed)
    expected = json.dumps(config)
    config["adapter"]["name"] = "changed"
    config["task"].clear()
    assert json.dumps(read_config(sealed)) == expected


def test_the_collector_comes_back():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
