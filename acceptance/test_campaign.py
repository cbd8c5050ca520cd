"""A short SIGKILL campaign; `./test campaign -- --minutes 60` is the long one."""

from campaign import Campaign


def test_a_server_killed_again_and_again_under_load_loses_nothing_and_ends_everything(tmp_path):
    campaign = Campaign(tmp_path, seed=1, devices=4, operators=2)
    try:
        assert campaign.run(kills=4) == 4
        assert campaign.ledger.jobs and campaign.ledger.progress and campaign.ledger.reported
    finally:
        campaign.close()
