"""Lets preempted requests go on in a pause that waits for running requests to end.

vLLM leaves them queued, as if they were new, and calls the pause complete without them; they would
go on with other weights if those were changed meanwhile. That is seldom where only a lack of memory
preempts, but promotions do, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longrope_plugin.compat import names
from longrope_plugin.compat.names import PauseState, Request, RequestStatus

if TYPE_CHECKING:
    from vllm.v1.core.sched.scheduler import Scheduler as Base
else:
    Base = object


class DrainsPreempted(Base):
    """What a scheduler of vLLM's needs for that, from vLLM 0.32 on."""

    def get_num_unfinished_requests(self) -> int:
        """The number of requests that the next steps go on with."""
        return super().get_num_unfinished_requests() + len(self._frozen())

    @contextmanager
    def draining(self) -> Iterator[None]:
        """While vLLM schedules a step, preempted requests are where it looks during such a pause.

        That is among the waiting requests that hold KV blocks, behind all that do.
        """
        begun = self._frozen()
        if not begun:
            yield
            return
        self.waiting.remove_requests(begun)
        for request in begun:
            self.kv_holding_waiting.add_request(request)
        try:
            yield
        finally:
            left = [  # without those that load blocks now, which vLLM has put there itself
                request
                for request in self.kv_holding_waiting
                if request in begun and request.status == RequestStatus.PREEMPTED
            ]
            self.kv_holding_waiting.remove_requests(left)
            self.waiting.prepend_requests(reversed(left))

    def _frozen(self) -> list[Request]:
        """The preempted requests that vLLM would not go on with."""
        if self.pause_state != PauseState.PAUSED_NEW or not names.has_queue_for_pauses():
            return []
        return [request for request in self.waiting if request.status == RequestStatus.PREEMPTED]
