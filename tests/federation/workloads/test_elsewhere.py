"""What workloads on other machines may say of themselves."""

import pytest
from workload_groups import group_document

from federation.workloads.desk import Claim, Refused
from federation.workloads.elsewhere import check


def refusal(address="10.0.0.7", claim=Claim(), *, own=False, **group):  # noqa: B008  # it is immutable
    """Why it is not taken, "" if it is."""
    try:
        check(group_document(**group), address, claim, own=own)
    except Refused as error:
        return f"{error.status} {error}"
    return ""


@pytest.mark.parametrize("address", ["10.0.0.7", "100.64.1.1", "8.8.8.8", "fd00::7", "2600::1", "::ffff:10.0.0.7"])
def test_addresses_that_are_routed_are_taken(address):
    assert refusal(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.240.0.5"),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fd00::1%eth0",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
        ),
    ],
)
def test_this_machine_its_link_and_nobody_are_not(address):
    assert "register" in refusal(address)


def test_nor_is_what_the_gateway_itself_has():
    assert "the gateway's own machine" in refusal("10.0.0.7", own=True)


@pytest.mark.parametrize(
    ("networks", "address", "taken"),
    [
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.0.0.7", False),
        ("10.1.0.0/16, fd00::/8", "fd00::7", True),
        ("10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("fe80::/10", "fe80::1%eth0", False),
    ],
)
def test_networks_that_the_group_names_are_the_only_ones(networks, address, taken):
    assert (refusal(address, own=True, networks=networks) == "") is taken


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (Claim(labels={"version": "v2", "app": "reviews"}), ""),
        (Claim(labels={"app": "payments"}), "labels.app"),
        (Claim(labels={"class": "large"}), "labels.class"),
        (Claim(service_account="reviews"), ""),
        (Claim(service_account="admin"), "serviceAccount"),
    ],
)
def test_what_the_group_says_is_not_for_a_workload_to_contradict(claim, words):
    said = refusal(claim=claim, template="{labels: {class: vm}, serviceAccount: reviews}")
    assert words in said if words else said == ""


def test_a_group_without_a_service_account_gives_none_away():
    assert "serviceAccount" in refusal(claim=Claim(service_account="admin"))
