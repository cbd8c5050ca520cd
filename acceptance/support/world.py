"""The world around a server: a disk that takes no writes and a wrong clock (world.c), and small real disks."""

import contextlib
import errno
import os
import pathlib
import struct
import subprocess
import tempfile

from .waiting import wait_for

_SOURCE = pathlib.Path(__file__).with_name("world.c")


def _library():
    """world.c, compiled once for each of its states."""
    made = pathlib.Path(tempfile.gettempdir()) / f"updraft-test-world-{os.getuid()}-{_SOURCE.stat().st_mtime_ns}.so"
    if not made.exists():
        fresh = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", fresh, _SOURCE, "-ldl"], check=True)
        fresh.rename(made)
    return made


class World:
    """What one server's processes are made to believe. Put `environment` into the server's."""

    def __init__(self, folder):
        self._file = pathlib.Path(folder) / "world"
        self._errno, self._ahead_ms = 0, 0
        self._file.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(_library()), "UPDRAFT_TEST_WORLD": str(self._file)}

    def _tell(self):
        with self._file.open("r+b") as file:
            file.write(struct.pack("=qq", self._errno, self._ahead_ms))

    @contextlib.contextmanager
    def writes_fail(self, error=errno.ENOSPC):
        """Writes to files fail meanwhile: ENOSPC, EROFS, EIO."""
        self._errno = error
        self._tell()
        try:
            yield
        finally:
            self._errno = 0
            self._tell()

    def set_clock(self, seconds):
        """The wall clock is so many seconds ahead (negative: behind) from now on."""
        self._ahead_ms = round(seconds * 1_000)
        self._tell()


def may_mount():
    """Whether this process may mount file systems."""
    if os.getuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
        with small_disk(folder, 1):
            return True
    return False


@contextlib.contextmanager
def small_disk(folder, mebibytes):
    """A file system of this size in memory at `folder`, which must exist."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield pathlib.Path(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def squeezed(disk, kibibytes_left):
    """Of a disk of small_disk so much is left meanwhile, whatever its size was."""
    whole = os.statvfs(disk)

    def resize(kibibytes):
        subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(disk)], check=True, capture_output=True)

    def squeeze():
        now = os.statvfs(disk)
        # Refused if more was written meanwhile.
        with contextlib.suppress(subprocess.CalledProcessError):
            resize(max((now.f_blocks - now.f_bfree) * now.f_frsize // 1024 + kibibytes_left, 1))
            return True
        return False

    wait_for(squeeze, every=0.001)
    try:
        yield
    finally:
        resize(whole.f_blocks * whole.f_frsize // 1024)

