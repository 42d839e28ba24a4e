"""Result lines: written whole or not at all, replaced when measured again, refused when damaged."""

import dataclasses
import json

import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.results import Result, environment, provenance, read_results, write_atomically, write_results

ONE = Result(
    pretext="rotation", backbone="revnet50", width=1, dataset="toy_scenes", seed=0, steps=10, weights="pretrained",
    endpoint="pre_logits", probe="linear", probe_dataset="toy_scenes", split="test", metric="top1", value=50.0,
)  # fmt: skip


def test_a_second_measurement_replaces_the_first_and_other_keys_stay(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [ONE, dataclasses.replace(ONE, seed=1)])
    write_results(path, [dataclasses.replace(ONE, value=60.0, seconds=3.0)])
    assert {r.seed: r.value for r in read_results(path)} == {0: 60.0, 1: 50.0}
    assert len(path.read_text().splitlines()) == 2


def test_damaged_line_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [ONE])
    path.write_text(path.read_text() + '{"pretext": "rota')
    with pytest.raises(InputError, match="results.jsonl line 2 is not a result .*remove the line"):
        read_results(path)
    with pytest.raises(InputError, match="no results at .*nothing.jsonl"):
        read_results(tmp_path / "nothing.jsonl")


def test_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(tmp_path / "file.txt" / "below", "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_provenance_says_when_where_and_from_which_commit():
    found = provenance()
    assert set(found) == {"date", "commit", "hardware"} and all(found.values())
    assert {"tensorflow", "keras", "command", "devices"} <= set(environment())
    json.dumps(environment())
