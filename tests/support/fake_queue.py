"""A server in simulated time: one request after the other, at a known rate."""

import heapq
import itertools


class FakeQueue:
    """A clock, and a server that takes a fixed time for a request; nothing waits really.

    Attributes:
        now: Seconds.
        stalls: (from, to): no request is finished meanwhile.
        max_queue: Requests that may wait; more are refused.
        rests: Every time that was waited.
    """

    def __init__(self, service_s, *, stalls=(), max_queue=None, blocks=False):
        self.now, self.service_s, self.stalls = 0.0, service_s, stalls
        self.max_queue, self.blocks, self.rests = max_queue, blocks, []
        self._free, self._events, self._numbers = 0.0, [], itertools.count()

    def clock(self):
        return self.now

    def rest(self, seconds):
        self.rests.append(seconds)
        self._advance(self.now + seconds)

    def send(self, ask, reply):
        """Takes a request; with ``blocks`` a stall holds the sender up, too."""
        if not reply.goes():
            return
        for begins, ends in self.stalls:
            if self.blocks and begins <= self.now < ends:
                self._advance(ends)
        if self.max_queue is not None and len(self._events) >= self.max_queue:
            reply.ends("refused", "503 QueueFullError")
            return
        self._free = max(self._free, self.now) + self.service_s
        for begins, ends in self.stalls:
            if begins < self._free <= ends:
                self._free = ends
        heapq.heappush(self._events, (self._free, next(self._numbers), reply))

    def drop(self):
        """Forgets what waits."""
        self._events.clear()
        self._free = self.now

    def _advance(self, until):
        while self._events and self._events[0][0] <= until:
            at, _, reply = heapq.heappop(self._events)
            self.now = at
            reply.ends("answered")
        self.now = until
