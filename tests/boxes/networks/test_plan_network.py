"""Which program carries a private network, for whom, and what is missing."""

from __future__ import annotations

import pytest

from jubako.boxes.networks.plan_network import USER_NAMESPACE, NetworkFacts, plan_network
from jubako.boxes.networks.publish import Published
from jubako.errors import HostError

BOTH = {"pasta": "/bin/pasta", "slirp4netns": "/bin/slirp4netns"}
PORTS = (Published("127.0.0.1", 8080, 80), Published("0.0.0.0", 5353, 53, "udp"))


def test_ordinary_users_network_is_carried_by_pasta() -> None:
    plan = plan_network(NetworkFacts(is_root=False, **BOTH), PORTS, host_loopback=False)
    words = plan.arguments
    assert plan.program == "/bin/pasta"
    assert words[words.index("--tcp-ports") + 1] == "127.0.0.1/8080:80"
    assert words[words.index("--udp-ports") + 1] == "0.0.0.0/5353:53"
    assert words[-4:] == ("--userns", USER_NAMESPACE, "--netns", "/proc/self/fd/0")
    assert plan.nameserver in words
    assert plan.published == ()


def test_roots_network_is_carried_by_slirp4netns_which_is_told_of_ports_later() -> None:
    plan = plan_network(NetworkFacts(is_root=True, **BOTH), PORTS, host_loopback=False)
    assert plan.program == "/bin/slirp4netns"
    assert "--api-socket=/proc/self/fd/5/network" in plan.arguments
    assert plan.arguments[-2:] == ("/proc/self/fd/6", "tap0")
    assert plan.published == PORTS


@pytest.mark.parametrize(("is_root", "closed"), [(True, "--disable-host-loopback"), (False, "--no-map-gw")])
def test_loopback_of_the_machine_is_closed_unless_it_is_asked_for(is_root: bool, closed: str) -> None:
    facts = NetworkFacts(is_root=is_root, **BOTH)
    assert closed in plan_network(facts, (), host_loopback=False).arguments
    assert closed not in plan_network(facts, (), host_loopback=True).arguments


def test_without_ports_none_is_published() -> None:
    words = plan_network(NetworkFacts(is_root=False, **BOTH), (), host_loopback=False).arguments
    assert [words[words.index(option) + 1] for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns")] == [
        "none"
    ] * 4
    assert not any(
        "api" in word for word in plan_network(NetworkFacts(is_root=True, **BOTH), (), host_loopback=False).arguments
    )


@pytest.mark.parametrize(
    ("facts", "missing", "package"),
    [
        (NetworkFacts(is_root=False, slirp4netns="/bin/slirp4netns"), "pasta", "passt"),
        (NetworkFacts(is_root=True, pasta="/bin/pasta"), "slirp4netns", "slirp4netns"),
    ],
)
def test_program_that_is_missing_is_named_with_its_package(facts: NetworkFacts, missing: str, package: str) -> None:
    with pytest.raises(HostError, match=missing) as caught:
        plan_network(facts, (), host_loopback=False)
    assert f"Install the package {package}" in caught.value.hint


@pytest.mark.parametrize(("tun", "why"), [("missing", "is missing"), ("forbidden", "is not yours")])
def test_tun_that_cannot_be_had_is_named_with_the_cure(tun: str, why: str) -> None:
    with pytest.raises(HostError, match=f"/dev/net/tun {why}") as caught:
        plan_network(NetworkFacts(is_root=False, tun=tun, **BOTH), (), host_loopback=False)  # type: ignore[arg-type]
    assert "chmod 0666 /dev/net/tun" in caught.value.hint
