"""What buckets that are reached in roles of their own take: memory and CPU, with few of them and with many.

moto is S3 and STS, on the loopback; its own CPU is not counted. The destinations are used one after the other. A
process of its own uses them: ``python -m benchmarks.role_clients ENDPOINT COUNT``.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from benchmarks.measurement import Measurement, Options, Say
from exportd.daemon.garbage import freeze
from exportd.destinations.open_destinations import MAX_IDLE, Destinations
from exportd.destinations.opener import DestinationOpener
from exportd.settings.schema import Settings
from exportd.stores.layout import ObjectKey
from tests.fixtures.moto import running_moto
from tests.fixtures.stores import PROFILE, aws_environment

_COUNTS: Final = (5 * MAX_IDLE, 25 * MAX_IDLE)
"""Both are enough for clients to be closed, and for their garbage to be collected."""
_WARM_UP = 5
_LIMIT = 1.5
"""Of what grows with their number there would be five times as much."""
_BUCKET = "lake"
_CONTENT = b"id\n" * 100


async def measure(options: Options, say: Say) -> list[Measurement]:
    """The memory that stays taken, and the CPU of a destination that is used once: many against few."""
    figures: dict[str, dict[str, float]] = {}
    few, many = counts = [options.size(count) for count in _COUNTS]
    with tempfile.TemporaryDirectory(prefix="exportd-bench-") as name:
        folder = Path(name)
        say("starting moto")
        manager = running_moto(folder / "moto")
        moto = await anyio.to_thread.run_sync(manager.__enter__)
        try:
            await anyio.to_thread.run_sync(moto.create_bucket, _BUCKET)
            environment = {**os.environ, **aws_environment(moto, folder)}
            for size, count in zip(("few", "many"), counts, strict=True):
                say(f"using {count:,} destinations")
                command = [sys.executable, "-m", "benchmarks.role_clients", moto.endpoint, str(count)]
                done = await anyio.run_process(command, stderr=None, env=environment, cwd=Path(__file__).parents[1])
                figures[size] = json.loads(done.stdout)
        finally:
            await anyio.to_thread.run_sync(manager.__exit__, None, None, None)
    return [
        Measurement(
            f"S3 in roles: memory after {many:,} destinations, against {few:,}",
            figures["many"]["kept_bytes"] / figures["few"]["kept_bytes"],
            _LIMIT,
            "lower",
            f"{figures['few']['kept_bytes'] / 1e6:.0f} and {figures['many']['kept_bytes'] / 1e6:.0f} MB; at most "
            f"{MAX_IDLE} keep a client",
        ),
        Measurement(
            f"S3 in roles: CPU of a destination, one of {many:,} against one of {few:,}",
            figures["many"]["cpu_s"] / figures["few"]["cpu_s"],
            _LIMIT,
            "lower",
            f"{1000 * figures['few']['cpu_s']:.0f} and {1000 * figures['many']['cpu_s']:.0f} ms, with a client, a role "
            "that is assumed and an object",
        ),
    ]


async def _use(endpoint: str, count: int) -> dict[str, float]:
    access = {"region": "us-east-1", "profile": PROFILE, "endpoint": endpoint, "sts_endpoint": endpoint}
    declared = [_declared(number) for number in range(_WARM_UP + count)]
    settings = Settings.model_validate(
        {"database": {"dsn": "postgresql://unused@localhost/unused"}, "s3": access, "destination": declared}
    )
    destinations = DestinationOpener(settings).open_all()
    try:
        await _put(destinations, range(_WARM_UP))
        freeze()  # as the daemon does once it has started
        before_bytes, began_s = _memory_bytes(), time.process_time()
        await _put(destinations, range(_WARM_UP, _WARM_UP + count))
        cpu_s = (time.process_time() - began_s) / count
        return {"kept_bytes": _memory_bytes() - before_bytes, "cpu_s": cpu_s}
    finally:
        await destinations.aclose()


async def _put(destinations: Destinations, numbers: range) -> None:
    for destination in tuple(destinations)[numbers.start : numbers.stop]:
        async with destinations.using(destination.organization, destination.code) as used:
            await used.store.put(ObjectKey(f"{destination.organization}/file.csv"), _CONTENT)


def _declared(number: int) -> dict[str, Any]:
    role = f"arn:aws:iam::123456789012:role/exports-{number}"
    return {"type": "S3", "code": "lake", "organization": f"org-{number}", "bucket": _BUCKET, "role_arn": role}


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(anyio.run(_use, sys.argv[1], int(sys.argv[2]), backend_options={"use_uvloop": True})))
