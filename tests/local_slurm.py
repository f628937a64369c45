"""A real one-node Slurm on this machine, for as long as one command or one test takes.

    python tests/local_slurm.py snakemake --profile slurm figures --config preset=test

Starts munged, slurmctld and slurmd as children, runs the command, cancels what is left and stops them. It needs root
and Debian's packages: apt-get install --no-install-recommends slurm-wlm munge. It writes /etc/slurm/slurm.conf and
gres.conf, removes them again, and refuses a machine that has a Slurm of its own. The node has two GPUs on paper.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMMANDS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "setpriv")
FOLDER = Path("/etc/slurm")
MARK = "# written by tests/local_slurm.py\n"
SETTINGS = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=15
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=30
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:paper:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Return why no Slurm can be started here, or None when it can."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm and munge)"
    if os.geteuid() != 0:
        return "starting Slurm needs root"
    settings = FOLDER / "slurm.conf"
    if settings.exists() and not settings.read_text().startswith(MARK):
        return f"this machine has a Slurm of its own ({settings})"
    if subprocess.run(["squeue"], capture_output=True, timeout=60).returncode == 0:
        return "a local Slurm is running already"
    return None


def write_settings(folder: Path) -> None:
    """Write slurm.conf and gres.conf for this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    values = {"host": socket.gethostname().split(".")[0], "cpus": os.cpu_count(), "memory": memory * 9 // 10}
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "slurm.conf").write_text(MARK + SETTINGS.format(folder=folder, **values))
    (FOLDER / "gres.conf").write_text(MARK + "Name=gpu Type=paper File=/dev/null\nName=gpu Type=paper File=/dev/zero\n")


def wait_for(what: str, seconds: float, command: list[str], answer: str) -> None:
    """Wait until a command prints `answer`."""
    end = time.monotonic() + seconds
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and done.stdout.strip() == answer:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s; {command} says {done.stdout}{done.stderr}")
        time.sleep(0.5)


@contextmanager
def local_slurm() -> Iterator[None]:
    """Run Slurm inside the `with` block."""
    reason = why_not()
    if reason:
        raise RuntimeError(reason)
    daemons: list[subprocess.Popen] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that `finally` runs
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("state", "spool"):
            (folder / part).mkdir()

        def start(*command: str) -> None:
            # A daemon ends with this process, also when it is killed.
            with open(folder / f"{command[0]}.log", "w") as log:
                command = ("setpriv", "--pdeathsig", "TERM", *command)
                daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

        try:
            write_settings(folder)
            key, munge = f"{folder}/munge.key", f"{folder}/munge"
            subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
            files = [f"--socket={munge}.socket", f"--pid-file={munge}.pid", f"--seed-file={munge}.seed"]
            start("munged", "--foreground", "--force", f"--key-file={key}", f"--log-file={munge}.log", *files)
            wait_for("munged", 20, ["sh", "-c", f"test -S {munge}.socket && echo up"], "up")
            start("slurmctld", "-D")
            start("slurmd", "-D")
            try:
                wait_for("the node", 60, ["sinfo", "--noheader", "--partition=main", "--format=%T"], "idle")
            except TimeoutError as error:
                logs = [(folder / f"{name}.log").read_text()[-2000:] for name in ("slurmctld", "slurmd")]
                raise TimeoutError("\n".join([str(error), *logs])) from error
            yield
        finally:
            with suppress(subprocess.SubprocessError, OSError, TimeoutError):
                subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=60)
                wait_for("the last job", 60, ["squeue", "--noheader"], "")
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                try:
                    daemon.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            for file in ("slurm.conf", "gres.conf"):
                (FOLDER / file).unlink(missing_ok=True)
            signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(f"error: {reason}")
    with local_slurm():
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"]).returncode)
