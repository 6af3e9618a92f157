"""Makes the device of a running server hang, as a faulty driver does: its thread is stopped inside a call.

    with Hang(pid): ...      # the thread goes on behind the block

Linux only. It takes the right to trace the process: root, or a child of ours.
"""

import ctypes
import os
from pathlib import Path

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WAIT_ALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def device_thread(pid):
    """The thread that alone talks to the device."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("dgx-pixels "):
            return int(task.name)
    raise RuntimeError(f"process {pid} has no thread of a device")


def trace(request, thread):
    if libc.ptrace(request, thread, None, None) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"thread {thread}")


class Hang:
    """The thread of the device of process `pid`, stopped."""

    def __init__(self, pid):
        self.thread = device_thread(pid)

    def __enter__(self):
        trace(PTRACE_SEIZE, self.thread)
        trace(PTRACE_INTERRUPT, self.thread)
        os.waitpid(self.thread, WAIT_ALL)
        return self

    def __exit__(self, *_):
        try:
            trace(PTRACE_DETACH, self.thread)
        except OSError:
            pass  # The process has ended.
