"""The script in docs/cluster.md, by Slurm: when the time is up or somebody else comes first it saves, is requeued, and
goes on; cancelled it saves. Two nodes of this machine, each with a GPU that is none.

    apt install slurm-wlm munge; pytest -m slow tests/distributed/test_sbatch.py    # as root
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stages.conftest import write_data
from test_peers import CPU, OPTIONS
from test_ranks import free_port

from wakedream.runs import log_lines

DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"
TRAIN = f"-m wakedream train tokenizer debug --data data --out run {OPTIONS} {CPU} --train.parallel hsdp"
CONF = """
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=500 Gres=gpu:1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=500 Gres=gpu:1
PartitionName=low Nodes=one,two Default=YES State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=one,two State=UP PriorityTier=2 PreemptMode=OFF
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
                             for name in ("munged", "slurmctld", "slurmd")), reason="needs root, slurm-wlm and munge")]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where job.sh and its data are, while Slurm runs."""
    cluster, munge = tmp_path / "cluster", tmp_path / "cluster" / "munge"
    for name in ("munge", "state", "one", "two"):
        (cluster / name).mkdir(parents=True)
    munge.chmod(0o711)
    (munge / "key").write_bytes(os.urandom(1024))
    (munge / "key").chmod(0o400)
    (cluster / "slurm.conf").write_text(CONF.format(host=socket.gethostname().split(".")[0], folder=cluster,
                                                    ports=[free_port() for _ in range(3)]))
    (cluster / "gres.conf").write_text("NodeName=one Name=gpu File=/dev/null\nNodeName=two Name=gpu File=/dev/zero\n")
    for name, value in {"SLURM_CONF": str(cluster / "slurm.conf"), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"}.items():
        monkeypatch.setenv(name, value)
    files = [f"--{name}-file={munge / name}" for name in ("key", "log", "pid", "seed")]
    with ExitStack() as running:
        for command in (("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files),
                        ("slurmctld", "-D"), ("slurmd", "-D", "-N", "one"), ("slurmd", "-D", "-N", "two")):
            process = running.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            running.callback(process.terminate)
            time.sleep(1)
        (script,) = re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)
        script, count = re.subn(r"-m wakedream train .*(?=\) &)", f"{TRAIN} --train.steps $STEPS", script)
        assert count == 1
        (tmp_path / "job.sh").write_text(script.replace("$first:29500", f"localhost:{free_port()}"))
        write_data(tmp_path / "data")
        monkeypatch.chdir(tmp_path)
        yield tmp_path
        slurm("scancel", "--state=RUNNING", "--user=root")
        until(lambda: not slurm("squeue", "--noheader", "--states=RUNNING,COMPLETING"))


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def until(true: Callable[[], object], seconds: float = 90) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, slurm("squeue", "--long")
        time.sleep(0.2)


def submit(steps: int) -> str:
    """The job's number; of what its first line asks for, a GPU and a core of each node are left."""
    return slurm("sbatch", "--parsable", "--gpus-per-node=1", "--cpus-per-task=1", "--output=job-%j.out",
                 f"--export=ALL,STEPS={steps}", "job.sh")


def state(job: str) -> str:
    return slurm("squeue", "--noheader", "--states=all", f"--job={job}", "--format=%T")


def goes_on(folder: Path) -> None:
    """Some steps more than there are."""
    log = folder / "run" / "metrics.jsonl"
    before = len(log_lines(log))
    until(lambda: len(log_lines(log)) > before + 3)


def saved(folder: Path, job: str, times: int) -> int:
    """The step of the last save of so many that the job's own words tell of."""
    steps = re.findall(r"stopped and saved at step (\d+)", (folder / f"job-{job}.out").read_text())
    assert len(steps) == times
    return int(steps[-1])


def test_a_job_is_saved_requeued_and_goes_on(folder) -> None:
    job = submit(100_000)
    goes_on(folder)
    slurm("scancel", "--batch", "--signal=USR1", job)  # as Slurm does, before the time is up
    until(lambda: state(job) == "PENDING")
    first = saved(folder, job, 1)

    goes_on(folder)
    other = slurm("sbatch", "--parsable", "--partition=high", "--nodes=2", "--gpus-per-node=1", "--output=/dev/null",
                  "--wrap=true")
    until(lambda: state(other) == "COMPLETED")
    until(lambda: state(job) == "PENDING")
    second = saved(folder, job, 2)

    goes_on(folder)
    slurm("scancel", job)
    until(lambda: state(job) == "CANCELLED")
    third = saved(folder, job, 3)
    assert 4 <= first < second < third

    last = submit(third + 2)
    until(lambda: state(last) == "COMPLETED")
    steps = [line["step"] for line in log_lines(folder / "run" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == list(range(1, third + 3))
