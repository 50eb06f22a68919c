"""Executors of replay jobs: serial, on all cores, or on a Ray cluster."""

from __future__ import annotations

import concurrent.futures
import importlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import cv2
from tqdm import tqdm

from amodal_perception.errors import AmodalError, ConfigError, one_line
from amodal_perception.processes import end_with_parent
from amodal_perception.replay.jobs import Job, Outcome, Runner, replay_job, run_or_reuse

POLL_S = 0.2
KILLED = (
    "the process that did it was killed, most likely for want of memory; the same command goes on "
    "with what is left, and --workers says how many processes there may be"
)


def run_serial(jobs: Sequence[Job], run: Runner) -> Iterator[Outcome]:
    """Run one job after the other in this process."""
    with _progress(jobs) as bar:
        for job in jobs:
            outcome = run_or_reuse(job, run, bar.update)
            if outcome.is_reused:
                bar.update(job.message_count)
            yield outcome


def run_on_cores(jobs: Sequence[Job], workers: int = 0) -> Iterator[Outcome]:
    """Do the jobs in processes of this machine; they end with this one, however it ends.

    Args:
        jobs: what to do.
        workers: number of processes, which share the cores; 0: one for each core. A single one,
            or a single job, runs in this process.

    Yields:
        One outcome for each job; an error for a job whose process is killed.
    """
    cores = len(os.sched_getaffinity(0))
    workers = min(workers or cores, len(jobs))
    if workers <= 1:
        yield from run_serial(jobs, replay_job)
        return
    jobs = _with_threads(jobs, max(cores // workers, 1))
    with _progress(jobs) as bar:
        unfinished = list(jobs)
        for outcome in _run_in_pool(unfinished, workers, bar):
            unfinished.remove(outcome.job)
            yield outcome
        # A process was killed, and its pool with it. Whose fault it was shows when they are alone.
        for job in unfinished:
            alone = list(_run_in_pool([job], 1, bar))
            yield alone[0] if alone else Outcome(job, None, f"{job.bag}: {job.topic}: {KILLED}")


def _run_in_pool(jobs: Sequence[Job], workers: int, bar: tqdm) -> Iterator[Outcome]:
    """Do the jobs in processes; ends early, with some missing, where one of them is killed."""
    # Spawned, not forked: engines have threads, and threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    frames = context.Value("q", 0)
    before = bar.n
    reader, lifeline = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(frames, reader)
    )
    try:
        pending = {pool.submit(_run_counting_frames, job) for job in jobs}
        while pending:
            done, pending = concurrent.futures.wait(
                pending, POLL_S, concurrent.futures.FIRST_COMPLETED
            )
            bar.update(before + frames.value - bar.n)
            yield from (
                f.result() for f in done if not isinstance(f.exception(), BrokenProcessPool)
            )
        pool.shutdown()
    except BrokenProcessPool:  # by a process that was killed while jobs were handed out
        return
    finally:
        lifeline.close()
        pool.shutdown(cancel_futures=True)


def run_on_ray(jobs: Sequence[Job], address: str) -> Iterator[Outcome]:
    """Do the jobs as tasks of a Ray cluster, one CPU each.

    Every machine of the cluster needs this package, and the bags, the model and the results under
    the same paths.

    Args:
        jobs: what to do.
        address: as of ``ray.init``: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or ``local`` to
            start one on this machine.

    Raises:
        ConfigError: Ray is not installed, or no cluster at the address lets us in.
        AmodalError: the cluster was lost.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise ConfigError("--ray needs Ray: python3 -m pip install ray") from None
    try:
        ray.init(address=address, logging_level=logging.WARNING, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot join a Ray cluster at {address!r} ({one_line(error)})"
        ) from None
    try:
        task = ray.remote(num_cpus=1)(_run_without_progress)
        job_of = {task.remote(_absolute(job)): job for job in _with_threads(jobs, 1)}
        pending = list(job_of)
        with _progress(jobs) as bar:
            while pending:
                done, pending = ray.wait(pending)
                for reference in done:
                    job = job_of[reference]
                    bar.update(job.message_count)
                    try:
                        yield replace(ray.get(reference), job=job)
                    except ray.exceptions.RayError as error:
                        reason = f"Ray lost it: {one_line(error)}"
                        yield Outcome(job, None, f"{job.bag}: {job.topic}: {reason}")
    except ray.exceptions.RayError as error:
        raise AmodalError(f"lost the Ray cluster: {one_line(error)}") from None
    finally:
        ray.shutdown()


# What runs in a worker process

_frames_done: Any = None


def _begin_worker(frames: Any, lifeline: Connection) -> None:
    global _frames_done
    _frames_done = frames
    logging.basicConfig(level=logging.WARNING, format="amodal: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    end_with_parent(lifeline)
    cv2.setNumThreads(1)


def _run_counting_frames(job: Job) -> Outcome:
    seen = 0

    def count(frames: int = 1) -> None:
        nonlocal seen
        seen += frames
        with _frames_done.get_lock():
            _frames_done.value += frames

    outcome = run_or_reuse(job, replay_job, count)
    count(job.message_count - seen)  # what was kept, left out, or failed is done with as well
    return outcome


def _run_without_progress(job: Job) -> Outcome:
    return run_or_reuse(job, replay_job, lambda: None)


def _absolute(job: Job) -> Job:
    """Workers elsewhere have another current folder."""
    return replace(
        job,
        bag=job.bag.absolute(),
        out_dir=job.out_dir.absolute(),
        model=replace(job.model, path=job.model.path.absolute()),
        truth_path=job.truth_path and job.truth_path.absolute(),
    )


def _with_threads(jobs: Sequence[Job], num_threads: int) -> list[Job]:
    """Share the cores between processes, unless the user said otherwise."""
    return [
        replace(job, model=replace(job.model, num_threads=job.model.num_threads or num_threads))
        for job in jobs
    ]


def _progress(jobs: Sequence[Job]) -> tqdm:
    total = sum(job.message_count for job in jobs)
    # What fails at once, fails in one line.
    return tqdm(desc="replay", total=total, unit="frame", delay=0.5)
