"""What happens to nodes, their database, and the wires between them. Each is a function of the campaign and a node; its
docstring names it in the figures. Afterwards everything runs, and every wire is whole.
"""

import contextlib
import signal
import time


def killed(campaign, node):
    """node killed (SIGKILL)"""
    campaign.kill(node)
    campaign.pause(2, 8)
    node.start()


def killed_for_long(campaign, node):
    """node killed and away for longer than the lease"""
    left = campaign.number_of(node)
    campaign.kill(node)
    campaign.wait_given_up(node, left)
    node.start()


def stopped_in_order(campaign, node):
    """node stopped (SIGTERM) and started"""
    node.stop()
    campaign.pause(0, 2)
    node.start()


def restarted_one_after_another(campaign, _):
    """all nodes restarted one after another (SIGTERM)"""
    for node in campaign.nodes:
        node.stop()
        node.start()
        campaign.pause(1, 3)


def stood_still(campaign, node):
    """node stood still, for less than the lease (SIGSTOP)"""
    with frozen(node):
        campaign.pause(1, campaign.lease - 2)


def stood_still_for_long(campaign, node):
    """node stood still, for longer than the lease (SIGSTOP)"""
    left = campaign.number_of(node)
    with frozen(node):
        campaign.wait_given_up(node, left)
        campaign.pause(0, 4)


@contextlib.contextmanager
def frozen(node):
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


def cut_from_database(campaign, node):
    """node cut from the database (connections closed and refused)"""
    with broken(campaign.to_database[node], "cut"):
        campaign.pause(2, 15)


def database_silent(campaign, node):
    """nothing passes between a node and the database"""
    with broken(campaign.to_database[node], "stall"):
        campaign.pause(2, 20)


def database_far(campaign, node):
    """each packet between a node and the database takes 30 ms longer"""
    with broken(campaign.to_database[node], "slow", 0.03):
        campaign.pause(5, 12)


def devices_silent(campaign, node):
    """nothing passes between half of a node's devices and it"""
    if node in campaign.to_devices:
        with broken(campaign.to_devices[node], "stall"):
            campaign.pause(2, 20)


def devices_cut(campaign, node):
    """half of a node's devices lose it (connections closed and refused)"""
    if node in campaign.to_devices:
        with broken(campaign.to_devices[node], "cut"):
            campaign.pause(2, 10)


def devices_far(campaign, node):
    """each packet between half of a node's devices and it takes 300 ms longer"""
    if node in campaign.to_devices:
        with broken(campaign.to_devices[node], "slow", 0.3):
            campaign.pause(5, 12)


@contextlib.contextmanager
def broken(link, how, *arguments):
    getattr(link, how)(*arguments)
    try:
        yield
    finally:
        link.heal()


def database_crashed(campaign, _):
    """database crashed and started (immediate)"""
    campaign.crashes.append(time.time())
    campaign.postgres.crash()
    campaign.pause(0, 4)
    campaign.postgres.start()
    campaign.crashes.append(time.time())


def database_restarted(campaign, _):
    """database restarted (fast)"""
    campaign.postgres.stop()
    campaign.pause(0, 4)
    campaign.postgres.start()


ALL = [
    killed, killed_for_long, stopped_in_order, restarted_one_after_another, stood_still, stood_still_for_long,
    cut_from_database, database_silent, database_far, devices_silent, devices_cut, devices_far, database_crashed,
    database_restarted,
]
# What happens to all of them together.
OF_ALL = {restarted_one_after_another, database_crashed, database_restarted}
# Faults in which pushes may stand in a wire, or in a process that stands still, and arrive together afterwards.
HOLDS_PUSHES = {
    stood_still, stood_still_for_long, database_silent, database_far, database_crashed, devices_silent, devices_far,
}
