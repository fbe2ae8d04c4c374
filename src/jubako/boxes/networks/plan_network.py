"""Plans a box's private network: which program carries it between the box's network namespace and ours. Pure.

pasta and slirp4netns open ordinary sockets for what the box does, as this user, so no right is needed but to
/dev/net/tun. An ordinary user's box takes pasta: slirp4netns becomes uid 0 of a user namespace, and a box's has none.
Root's takes slirp4netns: pasta gives up being root before it enters a namespace. Neither lets the box reach this
machine's loopback unless that is asked for.
"""

from __future__ import annotations

from jubako.errors import HostError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from jubako.boxes.networks.publish import Published

__all__ = [
    "API_NAME",
    "USER_NAMESPACE",
    "NetworkFacts",
    "NetworkPlan",
    "plan_network",
]

API_NAME = "network"  # slirp4netns's socket, in the box's directory
USER_NAMESPACE = "USER-NAMESPACE"  # stands for a path, in the arguments
# Where the program has what is given to it. pasta from 2024_08 on closes everything above 2.
_PASTA_PLACES = {"network": 0, "ready": 1}
_SLIRP_PLACES = {"ready": 3, "exit": 4, "folder": 5, "network": 6}
_PASTA_NAMESERVER = "169.254.1.1"
_SLIRP_NAMESERVER = "10.0.2.3"
_SLIRP_BOX = "10.0.2.100"
_TUN = "/dev/net/tun"


@record
class NetworkFacts:
    """What the planner must know of this machine: where the programs are, "" for nowhere."""

    is_root: bool
    pasta: str = ""
    slirp4netns: str = ""
    tun: Literal["usable", "forbidden", "missing"] = "usable"


@record
class NetworkPlan:
    """`arguments` start the program, with a path of the box's user namespace for USER_NAMESPACE.

    `places` are the descriptors it finds things at: the box's `network` namespace, its `folder`, where to say that it
    is `ready`, and what is closed when it has to `exit`.
    """

    program: str
    arguments: tuple[str, ...]
    places: dict[str, int]
    nameserver: str  # that the box asks, and the program answers for with this machine's
    published: tuple[Published, ...] = ()  # still to be asked for when it runs: with slirp4netns
    box_address: str = ""


def plan_network(facts: NetworkFacts, published: Sequence[Published], *, host_loopback: bool) -> NetworkPlan:
    """The plan. HostError where nothing here can carry the network, with what to install."""
    if facts.tun != "usable":
        raise HostError(
            f"a private network cannot be had: {_TUN} " + ("is missing" if facts.tun == "missing" else "is not yours"),
            hint=f"As root: 'modprobe tun', then 'chmod 0666 {_TUN}', as it is on most machines; or --network none.",
        )
    if facts.is_root:
        if facts.slirp4netns:
            return _plan_slirp4netns(facts.slirp4netns, published, host_loopback=host_loopback)
        missing, package = "slirp4netns", "slirp4netns"
    else:
        if facts.pasta:
            return _plan_pasta(facts.pasta, published, host_loopback=host_loopback)
        missing, package = "pasta", "passt"
    who = "root" if facts.is_root else "an ordinary user"
    raise HostError(
        f"a private network cannot be had: {missing}, which carries it for {who}, is not installed",
        hint=f"Install the package {package}, or take --network none.",
    )


def _plan_pasta(program: str, published: Sequence[Published], *, host_loopback: bool) -> NetworkPlan:
    arguments = ["pasta", "--foreground", "--quiet", "--pid", _path("ready", _PASTA_PLACES), "--config-net"]
    if not host_loopback:
        arguments.append("--no-map-gw")
    arguments += ["--tcp-ns", "none", "--udp-ns", "none", "--dns-forward", _PASTA_NAMESERVER]
    for protocol, option in (("tcp", "--tcp-ports"), ("udp", "--udp-ports")):
        ports = [f"{one.address}/{one.port}:{one.box_port}" for one in published if one.protocol == protocol]
        for port in ports or ["none"]:
            arguments += [option, port]
    arguments += ["--userns", USER_NAMESPACE, "--netns", _path("network", _PASTA_PLACES)]
    return NetworkPlan(program, tuple(arguments), _PASTA_PLACES, _PASTA_NAMESERVER)


def _plan_slirp4netns(program: str, published: Sequence[Published], *, host_loopback: bool) -> NetworkPlan:
    ready, leave = _SLIRP_PLACES["ready"], _SLIRP_PLACES["exit"]
    arguments = ["slirp4netns", "--configure", f"--ready-fd={ready}", f"--exit-fd={leave}"]
    arguments += ["--enable-sandbox", "--enable-seccomp"]
    if not host_loopback:
        arguments.append("--disable-host-loopback")
    if published:
        arguments.append(f"--api-socket={_path('folder', _SLIRP_PLACES)}/{API_NAME}")
    arguments += ["--netns-type=path", _path("network", _SLIRP_PLACES), "tap0"]
    return NetworkPlan(program, tuple(arguments), _SLIRP_PLACES, _SLIRP_NAMESERVER, tuple(published), _SLIRP_BOX)


def _path(what: str, places: dict[str, int]) -> str:
    return f"/proc/self/fd/{places[what]}"
