"""A PostgreSQL cluster of a test's own, which can be made to crash, stop and refuse."""

import contextlib
import csv
import io
import itertools
import os
import pathlib
import signal
import subprocess


class Postgres:
    """A cluster in a folder, on a socket there."""

    def __init__(self, folder, **settings):
        """`settings` are PostgreSQL's, such as max_connections."""
        self.settings, self._databases = settings, itertools.count(1)
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        assert found, "no PostgreSQL below /usr/lib/postgresql: install it (`apt-get install postgresql`)"
        self.bin, self.folder = found[-1], pathlib.Path(folder)
        # The server refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        self.folder.mkdir(parents=True)
        if self.user:
            for parent in (self.folder, *self.folder.parents):
                if parent.stat().st_uid == 0 and parent != pathlib.Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
            subprocess.run(["chown", "postgres:postgres", self.folder], check=True)
        self._run("initdb", "-D", self.folder / "data", "-U", "updraft", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()
        self._run("createdb", "-h", self.folder, "-U", "updraft", "updraft")
        self.url = self._url("updraft")

    def _url(self, database):
        return f"postgres://updraft@/{database}?host={self.folder}"

    def database(self):
        """Makes an empty database; its URL."""
        name = f"made_{next(self._databases)}"
        self._run("createdb", "-h", self.folder, "-U", "updraft", name)
        return self._url(name)

    def _run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=120, **self.user,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        options += "".join(f" -c {name}={value}" for name, value in self.settings.items())
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self):
        """An orderly end, which does not wait for clients."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "fast", "-w", "stop")

    def crash(self):
        """As by a loss of power: nothing is written any more, and the next start recovers."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def end(self):
        """The last end, of whatever still runs."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.crash()

    @contextlib.contextmanager
    def crowd(self):
        """Clients that take every free connection and keep it; what is yielded sends the server's away, too."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        psql = [self.bin / "psql", "-h", self.folder, "-U", "updraft", "-d", "updraft", "-q", "-X"]
        clients = []

        def push():
            clients.extend(subprocess.Popen(psql, cwd="/", **options, **self.user) for _ in range(10))
            clients[0].stdin.write(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'updraft';\n"
            )
            clients[0].stdin.flush()

        push()
        try:
            yield push
        finally:
            for client in clients:
                with contextlib.suppress(BrokenPipeError):
                    client.stdin.close()
                client.wait(timeout=30)

    def pause(self):
        """Holds all of its processes where they are: connections stay open and say nothing."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def resume(self):
        """Lets them go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def _processes(self):
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        listed = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, listed)]

    def query(self, sql):
        """The rows of a query, every value as text."""
        copy = f"COPY ({sql.rstrip().rstrip(';')}) TO STDOUT WITH (FORMAT csv)"
        said = self._run("psql", "-h", self.folder, "-U", "updraft", "-d", "updraft", "-q", "-X", "-c", copy)
        return [tuple(row) for row in csv.reader(io.StringIO(said))]
