"""What must hold of several nodes after their trouble."""

import re

from crashes.checks import MUST_BE_EMPTY

QUEUED, NOTIFIED, SUCCEEDED, FAILED = 1, 2, 4, 5
MINUTE_MS = 60_000
# Of a batch without repeated attempts.
ONCE = {
    "a task was told for the first time twice": """
        SELECT job, ordinal, COUNT(*) FROM task_history WHERE to_status = 2 AND from_status < 2
        GROUP BY job, ordinal HAVING COUNT(*) > 1""",
    "a task ended twice": """
        SELECT job, ordinal, COUNT(*) FROM task_history WHERE to_status >= 4
        GROUP BY job, ordinal HAVING COUNT(*) > 1""",
    "a task succeeded and its device runs another version": """
        SELECT t.job, d.name, v.version FROM task t JOIN device d ON d.id = t.device
        JOIN job j ON j.id = t.job JOIN firmware f ON f.id = j.firmware
        JOIN device_version v ON v.device = d.id AND v.module = 'default'
        WHERE t.status = 4 AND v.version <> f.dest_version AND j.id = (SELECT MAX(id) FROM job)""",
}
# Lines at ERROR that faults are expected to leave.
EXPECTED = re.compile(
    "the other nodes had given this one up|the database takes no writes|the database is out of reach"
    "|the database cannot be reached|an audit line is lost"
    "|the engine could not work|the database did not take what a device sent|a call failed|no node carries batches out"
    "|nobody wakes this node|retryable|ServiceUnavailable|the database is away|could not be|cannot be read now"
)
COLOURS = re.compile("\x1b\\[[0-9;]*m")


def rows(query):
    """What is wrong with the rows, in words; empty: nothing."""
    wrong = []
    for meaning, sql in (MUST_BE_EMPTY | ONCE).items():
        if found := query(sql.format(since=0)):
            wrong.append(f"{meaning}: {len(found)} rows, such as {found[:3]}")
    return wrong


def notified_in_a_minute(query, job):
    """The most tasks of a batch that became NOTIFIED in any minute, by the server's clock."""
    moments = query(
        f"SELECT at FROM task_history WHERE job = {job} AND to_status = {NOTIFIED} AND from_status < {NOTIFIED}"
    )
    moments = sorted(int(at) for (at,) in moments)
    most = first = 0
    for last, at in enumerate(moments):
        while at - moments[first] >= MINUTE_MS:
            first += 1
        most = max(most, last + 1 - first)
    return most


def bad_lines(log):
    """The lines of a node's log that no fault explains."""
    bad = []
    with log.open(errors="replace") as lines:
        for line in lines:
            line = COLOURS.sub("", line)
            if "panicked" in line or " ERROR " in line and not EXPECTED.search(line):
                bad.append(line.strip()[:300])
    return bad


def lost_audit_lines(log, operation):
    """How many audit lines of an operation a node says it lost."""
    with log.open(errors="replace") as lines:
        return sum(f'an audit line is lost operation="{operation}"' in COLOURS.sub("", line) for line in lines)
