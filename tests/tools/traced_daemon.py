"""Runs a command of exportd and writes down which of its functions are called: ``python traced_daemon.py WORDS…``.

The environment names the file for it (TRACE_FILE). With TRACE_ALL it begins at once and writes at the end of the
process; otherwise it begins at SIGUSR1, and writes at SIGUSR2 what has been called since. TRACE_ROOTS names functions,
separated by commas: what one of them calls, by whatever way (tasks and threads that it starts too), is written down
below its name, and everything else below the empty one. Nothing of the tests is imported here, for the package that is
measured may be another checkout's.
"""

import atexit
import concurrent.futures
import inspect
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from pathlib import Path
from types import FrameType
from typing import Any

_ROOT: ContextVar[str] = ContextVar("root", default="")
_PACKAGE = f"{os.sep}exportd{os.sep}"


class Trace:
    """The functions that were called, by the root that called them and by file below the package."""

    def __init__(self, target: Path, roots: frozenset[str]) -> None:
        self._target = target
        self._roots = roots
        self._running = False
        self._called: dict[str, dict[str, set[str]]] = {}

    def begin(self, *_: object) -> None:
        """Forget what was called before."""
        self._called = {}
        self._running = True

    def write(self, *_: object) -> None:
        """End, and write the file in one piece."""
        self._running = False
        draft = self._target.with_suffix(".draft")
        draft.write_text(json.dumps(self._called, default=sorted))
        draft.rename(self._target)

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """For ``sys.setprofile``."""
        code = frame.f_code
        if event == "return" and code.co_qualname in self._roots:
            # A coroutine returns when it waits, too. Its callers are called again before it is, and are not beneath it.
            _ROOT.set("")
        if not self._running or event != "call":
            return
        # The bodies of classes and modules are not optimized; they run when something is imported.
        if code.co_flags & inspect.CO_OPTIMIZED:
            _, package, path = code.co_filename.rpartition(_PACKAGE)
            if package:
                if code.co_qualname in self._roots:
                    _ROOT.set(code.co_qualname)
                self._called.setdefault(_ROOT.get(), {}).setdefault(path, set()).add(code.co_qualname)


class _Pool(ThreadPoolExecutor):
    """Lets what it runs know its root; the library's own pool starts each call in an empty context."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return super().submit(copy_context().run, fn, *args, **kwargs)


def main() -> None:
    """Run the command."""
    # exportd's modules, imported later, take their pools by this name. To the type checker a class is no variable.
    concurrent.futures.ThreadPoolExecutor = _Pool  # type: ignore[misc]
    trace = Trace(Path(os.environ["TRACE_FILE"]), frozenset(os.environ.get("TRACE_ROOTS", "").split(",")))
    profile: Callable[[FrameType, str, object], None] = trace.profile
    threading.setprofile(profile)
    sys.setprofile(profile)
    if os.environ.get("TRACE_ALL"):
        trace.begin()
        atexit.register(trace.write)
    else:
        signal.signal(signal.SIGUSR1, trace.begin)
        signal.signal(signal.SIGUSR2, trace.write)
    runpy.run_module("exportd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
