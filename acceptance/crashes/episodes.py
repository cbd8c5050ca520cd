"""Trouble between the kills of a campaign. Each is a function of the campaign; its docstring names it in the figures.

Afterwards the server runs and is ready, or is dead; the campaign kills it in any case, and checks.
"""

import contextlib
import errno
import shutil
import sqlite3
import subprocess

import requests

from support.server import Server, binary
from support.world import squeezed

# How far a clock is set back at a time, and in all before it is put right, in seconds. Push slots wait as long.
BACK_SECONDS, BACK_SECONDS_MAX = 15, 600
# So many packages are copied quickly.
BACKUPS_RARE_FROM = 1_500


def drawn(campaign):
    """One of its episodes. Backups become rarer as there is more to copy, or they would take all of a long campaign."""
    rare = min(1.0, BACKUPS_RARE_FROM / max(1, len(campaign.ledger.packages)))
    weights = [rare if episode is backup_restored else 1.0 for episode in campaign.episodes]
    return campaign.rng.choices(campaign.episodes, weights)[0]


def for_campaign(campaign):
    """The trouble that this campaign can have."""
    if campaign.postgres is not None:
        return [clock_set_back, database_crash, database_crash_with_the_server]
    disk = [full_disk, kill_on_a_full_disk] if campaign.disk is not None else []
    return [clock_set_back, disk_without_a_byte, failing_disk, backup_restored, *disk]


def clock_set_back(campaign):
    """clock set back"""
    campaign.behind = getattr(campaign, "behind", 0) + campaign.rng.uniform(1, BACK_SECONDS)
    if campaign.behind > BACK_SECONDS_MAX:
        campaign.behind = 0
    campaign.world.set_clock(-campaign.behind)
    # Half the time the running server sees it, else the next one.
    if campaign.rng.random() < 0.5:
        campaign.pause(campaign.rng.uniform(0.2, 2))


def _refusing(campaign):
    """The server lives, and what writes is refused."""
    campaign.pause(campaign.rng.uniform(0.3, 2))
    assert campaign.server.process.poll() is None, campaign.server.log_tail()
    assert requests.get(f"http://{campaign.server.api}/healthz", timeout=10).status_code == 200


def disk_without_a_byte(campaign):
    """writes refused (ENOSPC)"""
    with campaign.world.writes_fail(errno.ENOSPC):
        _refusing(campaign)
    campaign.wait_ready()
    campaign.pause(campaign.rng.uniform(0, 1))


def failing_disk(campaign):
    """writes refused (EIO or EROFS)"""
    with campaign.world.writes_fail(campaign.rng.choice((errno.EIO, errno.EROFS))):
        _refusing(campaign)
    campaign.wait_ready()
    campaign.pause(campaign.rng.uniform(0, 1))


def full_disk(campaign):
    """disk full, then free"""
    with squeezed(campaign.disk, campaign.rng.choice((0, 64, 1024))):
        _refusing(campaign)
    campaign.wait_ready()
    campaign.pause(campaign.rng.uniform(0, 1))


def kill_on_a_full_disk(campaign):
    """disk full, killed, start refused"""
    with squeezed(campaign.disk, 0):
        _refusing(campaign)
        campaign.server.kill()
        # What the server had open is free now.
        with squeezed(campaign.disk, 0):
            ports = ["--api-addr", campaign.server.api, "--mqtt-addr", campaign.server.mqtt]
            refused = campaign.server.command("serve", *ports)
        assert refused.returncode == 1 and "the disk is full" in refused.stderr, refused


def backup_restored(campaign):
    """backup, restored and compared"""
    room = campaign.disk or campaign.folder
    backup, restored = room / "backup", Server(room / "restored", quota_scale=0)
    moment = campaign.ledger.moment()
    for command in (
        ["backup", str(backup), "--data-dir", str(campaign.server.data_dir)],
        ["restore", str(backup), "--data-dir", str(restored.data_dir)],
    ):
        done = subprocess.run([binary(), *command], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(restored.data_dir / "updraft.db")) as database:
        campaign.checker.rows(lambda sql: database.execute(sql).fetchall(), moment)
    jobs, packages = moment.askable()
    try:
        restored.start()
        campaign.ask(restored, jobs, packages, campaign.server.root_key())
    finally:
        restored.kill()
    campaign.ledger.checks += moment.checks
    shutil.rmtree(backup)
    shutil.rmtree(restored.data_dir)


def database_crash(campaign):
    """PostgreSQL crashed, the server went on"""
    campaign.postgres.crash()
    campaign.pause(campaign.rng.uniform(0, 2))
    assert campaign.server.process.poll() is None, campaign.server.log_tail()
    campaign.postgres.start()
    campaign.wait_ready()
    campaign.pause(campaign.rng.uniform(0, 1))


def database_crash_with_the_server(campaign):
    """PostgreSQL crashed with the server"""
    campaign.postgres.crash()
    campaign.server.kill()
    campaign.postgres.start()
