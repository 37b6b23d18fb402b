"""The script in docs/cluster.md, with stand-ins for Slurm: when its time is up, it saves, requeues, and goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stages.conftest import write_data
from test_peers import OPTIONS

from wakedream.runs import log_lines
from wakedream.training.checkpoint import Checkpoints

DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"
STAND_INS = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >> requeued; fi\n',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"\n',
}


def prepare(folder: Path) -> dict[str, str]:
    """Script, data and stand-ins; the environment that Slurm would make."""
    (script,) = re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)
    script, count = re.subn(r"-m wakedream train .*(?= &)", "-m wakedream train tokenizer debug --data data --out run "
                            f"{OPTIONS} --train.save-every 100000 --train.steps $STEPS", script)
    assert count == 1
    (folder / "job.sh").write_text(script.replace(":29500", ":29651"))
    write_data(folder / "data")
    for name, text in STAND_INS.items():
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/bash\n" + text)
        file.chmod(0o755)
    return os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "STEPS": "100000",
        "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_NODELIST": "localhost", "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo"}


def stopped(folder: Path, environment: dict[str, str], number: signal.Signals) -> int:
    """The step that a job has saved, some after the one where it began, when its script alone got the signal."""
    checkpoints, log = Checkpoints(folder / "run" / "checkpoints", 1), folder / "run" / "metrics.jsonl"
    before = len(log_lines(log))
    job = subprocess.Popen(["bash", "job.sh"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if job.poll() is not None or len(log_lines(log)) > before + 3:
            break
        time.sleep(0.2)
    job.send_signal(number)
    said = job.communicate(timeout=90)[1]
    assert "stopped and saved at step" in said, said
    return int(checkpoints.latest().name.removeprefix("step_"))


@pytest.mark.slow
def test_the_job_is_saved_requeued_and_goes_on(tmp_path) -> None:
    environment = prepare(tmp_path)
    first = stopped(tmp_path, environment, signal.SIGTERM)
    assert first >= 4 and not (tmp_path / "requeued").exists()  # `scancel`
    step = stopped(tmp_path, environment, signal.SIGUSR1)
    assert step >= first + 4 and (tmp_path / "requeued").read_text() == "requeue 7\n"
    again = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environment | {"STEPS": str(step + 2)},
                           stderr=subprocess.PIPE, text=True, timeout=90)
    assert again.returncode == 0, again.stderr
    assert f"resuming at step {step} " in again.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"  # a run that has ended is not
    lines = log_lines(tmp_path / "run" / "metrics.jsonl")
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == list(range(1, step + 3))
