"""What a service may use on its node."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class ResourceLimit:
    """What a task may use: CPUs (0.5 is half of one) and memory in bytes."""

    cpus: Decimal
    memory_bytes: int

    @property
    def nano_cpus(self) -> int:
        """CPUs in billionths, as the Swarm counts them."""
        return int(self.cpus * 10**9)

    def at_most(self, other: "ResourceLimit") -> "ResourceLimit":
        """Return the smaller of both in each resource."""
        return ResourceLimit(
            cpus=min(self.cpus, other.cpus),
            memory_bytes=min(self.memory_bytes, other.memory_bytes),
        )
