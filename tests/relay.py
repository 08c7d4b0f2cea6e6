"""A line between a hospital and its coordinator that can be cut, go silent or slow down, and says who noticed."""

import contextlib
import socket
import threading
import time

CUT, SILENT, SLOW = "is cut", "goes silent", "is slow"
TICK_SECONDS, SLOW_SECONDS = 0.05, 0.5


class Relay:
    """Passes on what comes to a port of loopback, in both ways.

    Args:
        target: port of loopback that is dialled for every call.

    Attributes:
        port: where to call.
        trouble: calls are cut and refused, nothing gets through, everything is late, or "" for none.
        met: how often that met a call, or a part of one.
    """

    def __init__(self, target: int) -> None:
        self._target, self.trouble, self.met = target, "", 0
        self._ends: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def ail(self, trouble: str) -> None:
        """Let this be wrong from now on, "" for nothing; `met` is counted anew."""
        self.trouble, self.met = trouble, 0
        if trouble == CUT:
            for end in list(self._ends):
                self.met += 1
                _hang_up(end)

    def close(self) -> None:
        """Take no more calls."""
        _hang_up(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=self._call, args=(near,), daemon=True).start()

    def _call(self, near: socket.socket) -> None:
        self._wait()
        try:
            if self.trouble == CUT:
                self.met += 1
                raise OSError("cut")  # noqa: TRY301
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:  # nobody is there, and the caller hears just that
            near.close()
            return
        self._ends |= {near, far}
        other = threading.Thread(target=self._pump, args=(far, near), daemon=True)
        other.start()
        self._pump(near, far)
        other.join()
        self._ends -= {near, far}
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                self._wait()
                sink.sendall(part)
                if self._enough(frozenset((source, sink)), len(part)):
                    break
        for end in (source, sink):
            _hang_up(end)

    def _enough(self, line: frozenset[socket.socket], carried: int) -> bool:
        """Hear that so many bytes more went along a line, either way; returns whether it breaks here."""
        return False

    def _wait(self) -> None:
        if self.trouble == SLOW:
            self.met += 1
            time.sleep(SLOW_SECONDS)
        self.met += self.trouble == SILENT
        while self.trouble == SILENT:
            time.sleep(TICK_SECONDS)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
