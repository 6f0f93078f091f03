"""Describe the machine and its runtimes, and fingerprint what DVC cannot see: a change of either is noticed."""

import argparse
from pathlib import Path

from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, FINGERPRINTS, GPU_MODELS, SOURCES, GpuModels
from stages.core import errors
from stages.data import changes
from stages.params import document
from stages.runtimes import host
from stages.runtimes.fingerprints import Digests
from stages.tracking import receipts
from stages.tracking.store import tracking_uri


def main() -> None:
    """Check all of params.yaml, look around, and write environment.json, gpu_models.json and the digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    checkout = parser.parse_args().checkout
    setting = document.check()
    sources = changes.digests(setting.sources, checkout)
    machines, threads = {}, setting.benchmark.threads
    if setting.execution.engine == "ray":
        from stages.cluster import ray  # this stage always runs, and needs it seldom

        machines = ray.describe(setting.execution, threads, setting.variants)
    primary = next(iter(machines), None)
    environment = machines.pop(primary) if primary else host.describe(threads, setting.variants)
    codec.write(sources, SOURCES)
    codec.write(environment, ENVIRONMENT)
    codec.write(GpuModels(primary, machines), GPU_MODELS)
    codec.write(receipts.state(tracking_uri(setting.tracking, checkout)), receipts.STORE)
    codec.write(Digests(environment, setting.runtimes).of(setting.variants), FINGERPRINTS)


if __name__ == "__main__":
    errors.run(main)
