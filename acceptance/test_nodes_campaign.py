"""A short campaign on three nodes; `./test nodes -- --minutes 30` is the long one."""

import pathlib
import tempfile

import pytest

from nodes_campaign import Campaign
from outages import faults


@pytest.fixture
def campaign():
    # Not among pytest's folders: PostgreSQL does not run as root, and pytest keeps those to its user.
    with tempfile.TemporaryDirectory(prefix="updraft-nodes-") as folder:
        made = Campaign(pathlib.Path(folder) / "world", 1, devices=200, per_minute=500, lease=3)
        yield made
        made.close()


@pytest.mark.timeout(180)
def test_a_rollout_ends_as_it_should_whatever_happens_to_its_nodes_and_their_database(campaign):
    campaign.round([
        (faults.killed, 1),
        (faults.database_silent, 2),
        (faults.database_crashed, 0),
        (faults.stood_still_for_long, 0),
    ])
    campaign.finish()
    assert campaign.wrong == []
    assert len(campaign.faults) == 4 and len(campaign.calls.acknowledged) > 50
