"""What must hold of the rows, on either engine, and what was acknowledged of them."""

OPEN_STATES = 4  # storage numbers of task states: below are the open ones
# Queries that must find nothing, and what it would mean. Batches with smaller numbers than {since} are left out.
MUST_BE_EMPTY = {
    "counts differ from rows": """
        SELECT job, status, SUM(n) FROM job_count WHERE job >= {since} GROUP BY job, status HAVING SUM(n) <> 0
        EXCEPT SELECT job, status, COUNT(*) FROM task WHERE job >= {since} GROUP BY job, status""",
    "rows differ from counts": """
        SELECT job, status, COUNT(*) FROM task WHERE job >= {since} GROUP BY job, status
        EXCEPT SELECT job, status, SUM(n) FROM job_count WHERE job >= {since} GROUP BY job, status""",
    "a device has two open tasks": """
        SELECT device FROM task WHERE status < 4 GROUP BY device HAVING COUNT(*) > 1""",
    "all tasks have ended but the batch has not": """
        SELECT id FROM job WHERE id >= {since} AND expanded = 1 AND end_at IS NULL AND task_count > 0
        AND policy = 0 AND NOT EXISTS (SELECT 1 FROM task WHERE task.job = job.id AND task.status < 4)""",
    # A dynamic one ends when it takes nobody in any more; whom it took in goes on.
    "an ended batch has open tasks": """
        SELECT job.id FROM job JOIN task ON task.job = job.id
        WHERE job.end_at IS NOT NULL AND task.status < 4 AND job.dynamic_mode IS NULL""",
    "a product counts its devices wrongly": """
        SELECT id FROM product
        WHERE device_count <> (SELECT COUNT(*) FROM device WHERE device.product = product.id AND deleted_at IS NULL)""",
    "the last line of a task's history tells another state": """
        SELECT h.job, h.ordinal, h.to_status, task.status FROM task_history h
        JOIN task ON task.job = h.job AND task.ordinal = h.ordinal
        WHERE h.job >= {since} AND h.to_status <> task.status AND h.id = (
            SELECT MAX(id) FROM task_history l WHERE l.job = h.job AND l.ordinal = h.ordinal)""",
    "a task's history has a gap": """
        SELECT job, ordinal FROM (
            SELECT job, ordinal, from_status,
                   LAG(to_status) OVER (PARTITION BY job, ordinal ORDER BY id) AS before
            FROM task_history WHERE job >= {since}) h
        WHERE before IS NOT NULL AND before <> from_status""",
}
ACKNOWLEDGED = (
    ("product", "product_key", lambda ledger: ledger.products),
    ("device", "name", lambda ledger: ledger.devices),
    ("firmware", "firmware_id", lambda ledger: set(ledger.packages)),
    ("job", "job_id", lambda ledger: set(ledger.jobs)),
)
TASKS = """
    SELECT task.job, task.ordinal, task.status, task.progress, device.name, firmware.dest_version, job.job_id
    FROM task JOIN device ON device.id = task.device JOIN job ON job.id = task.job
    JOIN firmware ON firmware.id = job.firmware WHERE task.job >= {since}"""


class Checker:
    """Compares rows with what a ledger says; fails with the seed."""

    def __init__(self, seed):
        self.seed = seed

    def check(self, ledger, holds, what):
        assert not ledger.broken, f"seed {self.seed}: {ledger.broken}"
        ledger.checks += 1
        assert holds, f"seed {self.seed}: {what}"

    def rows(self, query, ledger, since=0):
        """`query` answers the rows of a text of SQL."""
        for meaning, sql in MUST_BE_EMPTY.items():
            found = query(sql.format(since=since))
            self.check(ledger, not found, f"{meaning}: {found[:5]}")
        for table, column, told in ACKNOWLEDGED:
            known = told(ledger)
            there = {row[0] for row in query(f"SELECT {column} FROM {table}")}
            ledger.checks += len(known)
            assert known <= there, f"seed {self.seed}: {table} acknowledged and gone: {known - there}"
        for job, ordinal, state, progress, device, version, job_id in query(TASKS.format(since=since)):
            job, ordinal, state, progress = int(job), int(ordinal), int(state), int(progress)
            if job_id in ledger.reopened:
                continue  # an operator may have begun it anew
            before = ledger.final.get((job, ordinal))
            self.check(ledger, before in (None, state), f"task {job}-{ordinal} was {before} and is {state}")
            if state >= OPEN_STATES:
                ledger.final[job, ordinal] = state
                continue
            step = ledger.progress.get((device, version), 0)
            self.check(ledger, progress >= step, f"{device} {version}: {step} was acknowledged, {progress} is there")
            self.check(
                ledger, (device, version) not in ledger.reported, f"{device} reported {version}, its task is open"
            )
