"""Runs planned from bags, topics and truth, and tried one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.bag_writing import image_message, write_bag
from helpers.replays import RUNS, SIZE_HW, replay

from amodal_perception.errors import DatasetError, ModelFileError
from amodal_perception.replay.jobs import ModelSettings, list_jobs, replay_job, run_or_reuse


def test_truth_must_tell_cameras_apart(tmp_path, bags, model):
    first = tmp_path / "first"
    assert replay(bags / "one", "--model", model, "--out", first) == 0
    truth = first / "predictions.json"
    two = bags / "night" / "two"
    with pytest.raises(DatasetError, match="names no 'topic', and the bag has several cameras"):
        list_jobs([two], tmp_path / "out", ModelSettings(model), truth_path=truth)
    (job,), _ = list_jobs(
        [two], tmp_path, ModelSettings(model), topics=["/left"], truth_path=truth
    )
    assert (job.topic, job.out_dir, job.is_only) == ("/left", tmp_path, True)


def test_bags_of_one_name_and_results_in_the_folder_itself(tmp_path, bags, model):
    jobs, errors = list_jobs(
        [bags / "one", bags / "night" / "one"], bags / "out", ModelSettings(model)
    )
    assert [job.out_dir.name for job in jobs] == ["one", "one_2"]
    assert not errors
    for job in jobs:
        run_or_reuse(job, replay_job, lambda: None)
    # The scenes that were written are no recordings.
    jobs, _ = list_jobs([bags], bags / "out", ModelSettings(model))
    assert [str(job.out_dir.relative_to(bags / "out")) for job in jobs] == RUNS


def test_topics_that_read_alike_have_folders_and_topics_of_their_own(tmp_path, model):
    camera = [image_message(np.zeros((*SIZE_HW, 3), np.uint8), 10**9)]
    bag = write_bag(tmp_path / "bag", {"/arm/eye": camera, "/arm_eye": camera})
    jobs, _ = list_jobs([bag], tmp_path / "out", ModelSettings(model))
    assert [job.out_dir.name for job in jobs] == ["arm_eye", "arm_eye_2"]
    namespaces = [job.options.namespace for job in jobs]
    assert namespaces == ["/amodal_perception/arm_eye", "/amodal_perception/arm_eye_2"]
    (job,), _ = list_jobs(
        [bag / "metadata.yaml"], tmp_path, ModelSettings(model), topics=["/arm_eye"]
    )
    assert job.options.namespace == "/amodal_perception"


def test_a_job_that_fails_is_told(tmp_path, bags, model):
    jobs, _ = list_jobs([bags], tmp_path / "out", ModelSettings(model))
    broken = replace(jobs[0], topic="/nothing")
    outcome = run_or_reuse(broken, replay_job, lambda: None)
    assert outcome.summary is None
    assert "no image topic '/nothing'" in outcome.error
    with pytest.raises(ModelFileError, match="no such model"):
        list_jobs([bags], tmp_path / "out", ModelSettings(tmp_path / "none.onnx"))


def test_an_error_nobody_foresaw_costs_one_run(tmp_path, bags, model):
    (job, *_), _ = list_jobs([bags], tmp_path / "out", ModelSettings(model))

    def run(job, on_frame):
        raise OverflowError("int too big\nto convert")

    outcome = run_or_reuse(job, run, lambda: None)
    assert outcome.summary is None
    assert f"{job.bag}: {job.topic} could not be replayed (OverflowError: int" in outcome.error
    assert "\n" not in outcome.error


def test_a_missing_path_costs_no_other_bag(tmp_path, bags, model):
    jobs, errors = list_jobs(
        [bags / "one", tmp_path / "none"], tmp_path / "out", ModelSettings(model)
    )
    assert [job.bag for job in jobs] == [bags / "one"]
    assert errors == {str(tmp_path / "none"): f"{tmp_path / 'none'}: no such bag"}
    assert not jobs[0].is_only


def test_a_bad_truth_costs_its_own_bag(tmp_path, bags, model):
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "two.json").write_text("{")
    jobs, errors = list_jobs([bags], tmp_path / "out", ModelSettings(model), truth_path=truth)
    assert {job.bag.name for job in jobs} == {"one"}
    assert "two.json" in errors[str(bags / "night" / "two")]
    with pytest.raises(DatasetError, match=r"two\.json"):
        list_jobs([bags], tmp_path / "out", ModelSettings(model), truth_path=truth / "two.json")


def test_threads_do_not_make_another_run(tmp_path, bags, model):
    jobs, _ = list_jobs([bags], tmp_path / "out", ModelSettings(model))
    assert {job.model.num_threads for job in jobs} == {0}
    fingerprints = {job.fingerprint() for job in jobs}
    assert len(fingerprints) == len(jobs)
    threaded = [replace(job, model=replace(job.model, num_threads=3)) for job in jobs]
    assert {job.fingerprint() for job in threaded} == fingerprints
