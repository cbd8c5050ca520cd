"""A wire between two programs that can be stalled, slowed and cut: a TCP proxy in a process of its own.

A stalled wire closes nothing: both ends see a peer that says nothing, as when a network swallows packets. What was sent
meanwhile arrives when the stall is over.
"""

import asyncio
import pathlib
import subprocess
import sys


class Link:
    """A proxy in front of a TCP address (`host:port`) or a Unix socket (a path); `address` is where it listens."""

    def __init__(self, target, host="127.0.0.1"):
        command = [sys.executable, str(pathlib.Path(__file__)), host, str(target)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the proxy did not start"

    def _say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "done"

    def stall(self):
        """Nothing passes, in either direction, and nothing is closed."""
        self._say("stall")

    def slow(self, seconds):
        """Everything that passes takes so much longer."""
        self._say(f"slow {seconds}")

    def cut(self):
        """All connections end, and new ones are refused."""
        self._say("cut")

    def heal(self):
        """As at the beginning."""
        self._say("heal")

    def close(self):
        self.process.kill()
        self.process.wait()


class _Wire:
    def __init__(self, target):
        self.target, self.delay, self.is_cut = target, 0.0, False
        self.flows = asyncio.Event()
        self.flows.set()
        self.ends = set()

    async def serve(self, reader, writer):
        if self.is_cut:
            writer.transport.abort()
            return
        self.ends.add(writer)
        far = None
        try:
            await self.flows.wait()
            if self.target.startswith("/"):
                back, far = await asyncio.open_unix_connection(self.target)
            else:
                host, port = self.target.rsplit(":", 1)
                back, far = await asyncio.open_connection(host, int(port))
            self.ends.add(far)
            await asyncio.gather(self._pass(reader, far), self._pass(back, writer))
        except OSError:
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self.ends.discard(end)
                    end.transport.abort()

    async def _pass(self, source, sink):
        while data := await source.read(65_536):
            await self.flows.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            sink.write(data)
            await sink.drain()
        await self.flows.wait()
        if sink.can_write_eof():
            sink.write_eof()

    def obey(self, word):
        what, _, rest = word.partition(" ")
        if what == "stall":
            self.flows.clear()
        elif what == "slow":
            self.delay = float(rest)
        elif what == "cut":
            self.is_cut = True
            for end in list(self.ends):
                end.transport.abort()
            self.flows.set()
        elif what == "heal":
            self.delay, self.is_cut = 0.0, False
            self.flows.set()


async def _main(host, target):
    wire = _Wire(target)
    server = await asyncio.start_server(wire.serve, host, 0, backlog=4096)
    print("%s:%d" % server.sockets[0].getsockname(), flush=True)
    loop = asyncio.get_running_loop()
    while word := await loop.run_in_executor(None, sys.stdin.readline):
        wire.obey(word.strip())
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
