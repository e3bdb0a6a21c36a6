"""Runs a graph on a Dask cluster of this machine; a program of its own, as its users would write it."""

from __future__ import annotations

import json
import subprocess
import sys

import dask
from distributed import Client, LocalCluster


def run(argv: list[str], *upstream: None) -> None:
    """Run one task."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def main() -> None:
    """Run all of them."""
    with open(sys.argv[1]) as file:
        graph = json.load(file)
    with (
        LocalCluster(n_workers=graph["parallel"], threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        tasks: list[dask.delayed.Delayed] = []
        for task in graph["tasks"]:  # upstream stands before
            tasks.append(dask.delayed(run, pure=False)(task["argv"], *(tasks[other] for other in task["upstream"])))
        client.gather(client.compute(tasks))


if __name__ == "__main__":
    main()
