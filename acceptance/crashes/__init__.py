"""The parts of the SIGKILL campaign (campaign.py): its load, its checks and the trouble that it makes."""
