"""Tests of how a results folder is taken and given back untouched."""

import pytest

from fp16engine.experiments.runs.results_dir import claim, read_json, read_run, refuse_results, write_json

SETTINGS = {"lr": 0.1, "epochs": 2}


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        claim(tmp_path / "out", SETTINGS, False, frozenset())
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["summary.json", "checkpoint.json", "metrics.jsonl", "compare.json"])
def test_results_of_any_command_are_refused(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"out must .* got .* with {name}"):
        refuse_results(tmp_path)


def test_resume_keeps_to_the_same_settings_but_for_those_that_may_change(tmp_path):
    claim(tmp_path, SETTINGS, False, frozenset())
    with pytest.raises(ValueError, match=r"epochs must .* got 3"):
        claim(tmp_path, {**SETTINGS, "epochs": 3}, True, frozenset())
    assert read_json(tmp_path / "compare.json") == SETTINGS
    claim(tmp_path, {**SETTINGS, "epochs": 3}, True, frozenset({"epochs"}))
    assert read_json(tmp_path / "compare.json")["epochs"] == 3


def test_resume_in_the_folder_of_a_single_run_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"resume must .* got .* with summary.json"):
        claim(tmp_path, SETTINGS, True, frozenset())


def test_json_with_nan_is_refused_and_the_old_file_kept(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "words"), [("{", "must be valid JSON, got "), ("[]", "must be a JSON object, got list")]
)
def test_damaged_json_is_named(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"status": 3}', "[" * 10**5, ""])
def test_a_damaged_record_of_a_run_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json"):
        read_run(tmp_path / "run.json", {"status": str})
