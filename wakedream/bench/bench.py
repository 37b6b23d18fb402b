"""`wakedream bench`."""

import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from wakedream import runs
from wakedream.bench.config import BENCHMARKS, BenchConfig
from wakedream.bench.machine import measure_machine
from wakedream.bench.report import Report
from wakedream.config import check, find
from wakedream.data.store import Store
from wakedream.device import pick_device
from wakedream.owned import refuse_owned


def bench(config: BenchConfig) -> None:
    """The machine's limits, then each benchmark's table. ConfigError before anything is measured."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    if config.baseline:
        from wakedream.bench.plain import plain_implementation

        plain_implementation()
    _check_paths(config)
    benchmarks = [find(BENCHMARKS[name]) for name in config.names or BENCHMARKS]
    report = Report(measure_machine(device), config.out)
    for benchmark in benchmarks:
        for result in benchmark(_with_need(config, report), report.machine):
            report.add(result)
        report.end_table()
    if config.out:
        print(f"\nwritten to {config.out}")


def _check_paths(config: BenchConfig) -> None:
    """Before minutes are spent on what could not be written or read."""
    if config.data is not None:
        Store.open(config.data)
    if config.out is not None:
        refuse_owned(config.out)
        check(not config.out.is_dir(), f"--out {config.out} is a folder: give the name of a JSON file")
        check(not config.out.exists() or _is_result(config.out),
              f"--out {config.out} is there and no result of `wakedream bench`: give another name, or remove it")
        with runs.disk_errors(config.out):
            config.out.parent.mkdir(parents=True, exist_ok=True)
        check(os.access(config.out.parent, os.W_OK),
              f"--out {config.out}: no file can be written in {config.out.parent}, choose another folder")


def _is_result(file: Path) -> bool:
    """Or an empty file."""
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else "no file"
        values = json.loads(text) if text else {"machine": {}, "results": []}
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"machine", "results"} <= values.keys()


def _with_need(config: BenchConfig, report: Report) -> BenchConfig:
    """Unless it was given, the loader must feed the fastest training step of this run."""
    trained = [result.frames_per_second for result in report.results if result.benchmark == "tokenizer-train"]
    rates = [rate for rate in trained if rate is not None]
    return replace(config, need=max(rates)) if config.need is None and rates else config

