"""A PostgreSQL cluster of a test's own, which can be made to crash."""

import csv
import io
import os
import pathlib
import subprocess


class Postgres:
    """A cluster in a folder, on a socket there."""

    def __init__(self, folder):
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
        self.url = f"postgres://updraft@localhost/updraft?host={self.folder}"

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
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", options, "start")

    def crash(self):
        """As by a loss of power: nothing is written any more, and the next start recovers."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def query(self, sql):
        """The rows of a query, every value as text."""
        copy = f"COPY ({sql.rstrip().rstrip(';')}) TO STDOUT WITH (FORMAT csv)"
        said = self._run("psql", "-h", self.folder, "-U", "updraft", "-d", "updraft", "-q", "-X", "-c", copy)
        return [tuple(row) for row in csv.reader(io.StringIO(said))]
