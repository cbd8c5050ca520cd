"""The parts of the campaign on several nodes (nodes_campaign.py): its faults, its load of calls, its checks."""
