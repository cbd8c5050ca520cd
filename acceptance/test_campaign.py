"""Short SIGKILL campaigns; `./test campaign -- --minutes 60` is the long one."""

import pytest

from campaign import Campaign
from crashes import episodes


@pytest.fixture
def make(tmp_path):
    """Makes a campaign that ends with the test."""
    made = []

    def campaign(**options):
        made.append(Campaign(tmp_path, devices=4, operators=2, **options))
        return made[0]

    yield campaign
    for one in made:
        one.close()


@pytest.mark.sqlite
def test_a_server_killed_again_and_again_under_load_loses_nothing_and_ends_everything(make):
    campaign = make(seed=1, trouble=False)
    assert campaign.run(kills=4) == 4
    assert campaign.ledger.jobs and campaign.ledger.progress and campaign.ledger.reported


@pytest.mark.sqlite
def test_a_backup_taken_under_load_holds_what_was_acknowledged_before(make):
    campaign = make(seed=2)
    campaign.episodes = [episodes.backup_restored]
    campaign.trouble_in_every_round = True
    assert campaign.run(kills=1) == 1
    assert campaign.trouble[episodes.backup_restored.__doc__] == 1


@pytest.mark.timeout(180)  # PostgreSQL recovers at the pace of the disk
def test_a_postgresql_that_crashes_loses_nothing_either(make):
    campaign = make(seed=3, postgres=True)
    campaign.episodes = [episodes.database_crash]
    campaign.trouble_in_every_round = True
    assert campaign.run(kills=1) == 1
    assert campaign.ledger.jobs and campaign.ledger.devices
