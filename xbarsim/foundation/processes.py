"""What every worker process does at its start, whoever starts it."""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["follow_parent"]


def follow_parent() -> None:
    """Make a spawned process deaf to Ctrl-C, which is the parent's to handle, and let it end with the parent.

    However the parent ends: a worker that waits for work would otherwise wait for ever after its parent was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])  # readable when the parent has ended, however it did
    os._exit(1)
