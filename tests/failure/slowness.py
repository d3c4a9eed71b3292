"""A process that gets little of its time. Owns its signals; whoever uses it ends with the process as it was."""

import os
import signal
import threading


class Slow:
    """Lets a process run for a hundredth of the time: a few milliseconds, then it stands still. A context manager."""

    RUNS_S, STANDS_S = 0.004, 0.396

    def __init__(self, pid):
        self.pid = pid
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.pace)

    def pace(self):
        while not self.ended.is_set():
            os.kill(self.pid, signal.SIGSTOP)
            self.ended.wait(self.STANDS_S)
            os.kill(self.pid, signal.SIGCONT)
            self.ended.wait(self.RUNS_S)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
