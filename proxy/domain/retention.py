"""When a message may leave the upstream, and when it may leave the store.

All by running time: no wall clock, and no time that the proxy was off, makes anything due.
"""

from __future__ import annotations

from proxy.domain.model import Device, Holding
from proxy.domain.policy import DAY, AccountPolicy, RetentionPolicy


def due_upstream(holding: Holding, policy: RetentionPolicy, ran: float) -> bool:
    """Whether the policy wants this message deleted upstream.

    "delivered" needs at least one device that has the message: an account whose devices are all
    yet to come, or have all been silent too long, keeps its mail upstream.
    """
    if holding.deleted_everywhere:
        return True
    delivered = holding.waiting == 0 and holding.having > 0
    old = ran - holding.fetched_ran >= policy.upstream_age
    return {
        "keep": False,
        "delivered": delivered,
        "age": old,
        "delivered-or-age": delivered or old,
    }[policy.upstream]


def due_locally(holding: Holding, policy: RetentionPolicy, ran: float) -> bool:
    """Whether a message that has left the upstream may leave the store as well."""
    if holding.waiting or holding.left_ran is None:
        return False
    last_use = max(holding.left_ran, holding.last_delivery_ran or 0.0)
    return ran - last_use >= policy.local_keep


def wants_upstream_deletions(policy: RetentionPolicy) -> bool:
    """Whether any message can become due upstream under this policy."""
    return policy.upstream != "keep" or policy.on_delete == "everywhere"


def expire_days(policy: AccountPolicy, device: Device | None = None) -> int | None:
    """Days that a message stays at least after a device has had it (RFC 2449 §6.7); None: for ever.

    With no `device`, for one that the policy alone decides on.
    """
    view = (device and device.view) or policy.devices.view
    if view == "undelivered":
        return 0
    if policy.retention.upstream == "keep":
        return None
    return int(policy.retention.local_keep // DAY)
