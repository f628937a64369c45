"""Run every stage of the test preset on a disk that is full, then with room: python full_disk.py FOLDER.

In a mount namespace of its own (`unshare --user --map-root-user --mount`): results/ becomes a small disk. It prints
a JSON line a stage, and at last the digests of all results.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import workplace

DISK = 200_000_000
BALLAST = "downloads/ballast"
LEFT = {  # stage -> bytes left on the disk, an attempt each
    "data": (0, 3_000_000, 9_000_000, 20_000_000),
    "runs": (0, 40_000, 500_000),
    "evaluations": (0, 20_000),
    "laws": (0, 30_000),
    "figures": (0, 100_000),
}


def main(folder: Path) -> None:
    """Go through the stages."""
    results = folder / "results"
    downloads = results / "downloads"
    kept = {path.name: path.read_bytes() for path in downloads.iterdir()} if downloads.is_dir() else {}
    results.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(results)], check=True)
    downloads.mkdir()
    for name, content in kept.items():
        (downloads / name).write_bytes(content)
    for target, attempts in LEFT.items():
        full = []
        for left in attempts:
            fill(results / BALLAST, left)
            full.append({"left": left, **said(workplace.run(folder, target))})
        (results / BALLAST).unlink()
        print(json.dumps({"target": target, "full": full, "room": said(workplace.run(folder, target))}))
    print(json.dumps(workplace.digests(folder)))


def fill(ballast: Path, left: int) -> None:
    """Write a file that leaves so many bytes of its disk, or fewer."""
    with ballast.open("wb", buffering=0) as file:
        while (room := shutil.disk_usage(ballast.parent).free - left) > 0:
            file.write(bytes(min(room, 1_000_000)))


def said(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """Return how a workflow ended and what it said."""
    return {"code": done.returncode, "said": done.stdout + done.stderr}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
