"""A Slurm of one node on the loopback interface, in a folder of its own; as a script it runs a command there.

    python python_tests/slurm_node.py sinfo

Needs root, and Debian's packages slurm-wlm and munge. Accounting is off and processes are tracked by their
group, so that it runs in a container without control groups.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
START_SECONDS = 60.0
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldParameters=enable_configless
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=300
ReturnToService=2
LaunchParameters=disable_send_gids
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Return what keeps a node from running here, None if nothing does."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "a Slurm node of one's own needs root"


@contextlib.contextmanager
def running(cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a controller and a node; yields the environment in which Slurm's commands find them."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        ports = _free_ports(2)
        configuration = folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(host=host, folder=folder, cpus=cpus, controller=ports[0], node=ports[1])
        )
        for each in ("state", "spool"):
            (folder / each).mkdir()
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": path}
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
        files[1] = f"--log-file={folder}/munged.log"
        start = stack.enter_context
        start(_daemon(["munged", "-F", f"--socket={folder}/munge.socket", *files], environment))
        _until(lambda: (folder / "munge.socket").exists(), "munged does not answer", folder)
        start(_daemon(["slurmctld", "-D", "-f", str(configuration)], environment))
        start(_daemon(["slurmd", "-D", "-N", host, "-f", str(configuration)], environment))
        _until(lambda: _idle(environment), "the node does not come up", folder)
        try:
            yield environment
        finally:
            subprocess.run(
                ["scancel", "--user=root"], env=environment, check=False, stderr=subprocess.DEVNULL
            )
            _until(lambda: not _jobs(environment), "jobs do not end", folder)


@contextlib.contextmanager
def _daemon(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _idle(environment: dict[str, str]) -> bool:
    return "idle" in _said(["sinfo", "--noheader", "--format=%t"], environment)


def _jobs(environment: dict[str, str]) -> str:
    return _said(["squeue", "--noheader"], environment)


def _until(true: object, otherwise: str, folder: Path) -> None:
    assert callable(true)
    end = time.monotonic() + START_SECONDS
    while not true():
        if time.monotonic() > end:
            logs = [f"{log.name}: {log.read_text()[-2000:]}" for log in folder.glob("*.log")]
            raise RuntimeError("\n".join([otherwise, *logs]))
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> int:
    """slurm_node.py COMMAND ARGUMENT...: run the command while a node is up."""
    reason = missing()
    if reason:
        raise SystemExit(reason)
    with running() as environment:
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
