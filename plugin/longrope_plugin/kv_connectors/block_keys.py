"""The copies of block keys that a KV connector keeps while a request lives."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.request import Request


class BlockKeys:
    """What OffloadingConnector has noted of each request.

    It copies a request's block hashes once and appends to the copy as the request grows. After a
    promotion it would store and look up the new set's blocks under the old set's keys. The other
    connectors that we serve read the request's own hashes, or its salt, each time.
    """

    def __init__(self, connector: Any) -> None:
        """connector: the scheduler's, None without one."""
        self._offloading = tuple(_offloading(connector))

    def forget(self, request: "Request") -> None:
        """Makes the connectors take a request's keys anew, and store its blocks from the first.

        To be called when a preempted request has been pinned to another set. Transfers under way
        have keys and blocks of their own, and end as they are.
        """
        for status in self._statuses(request):
            status.group_states = tuple(type(group)() for group in status.group_states)

    def forget_blocks(self, request: "Request") -> None:
        """Makes the connectors forget where a request's blocks were, once they have been freed.

        A preempted request may end with a token that was in flight, and would then be stored out
        of blocks that are another request's by now.
        """
        for status in self._statuses(request):
            for group in status.group_states:
                group.block_ids.clear()

    def _statuses(self, request: "Request") -> Iterator[Any]:
        for offloading in self._offloading:
            status = offloading._req_status.get(request.request_id)
            if status is not None:
                yield status


def _offloading(connector: Any) -> Iterator[Any]:
    """The scheduler sides of all OffloadingConnectors in a connector."""
    name = type(connector).__name__
    if name == "MultiConnector":
        for part in connector._connectors:
            yield from _offloading(part)
    elif name == "OffloadingConnector":
        yield connector.connector_scheduler
