"""When: things that happened, or were simulated to happen, on ranks."""

from .event import Event, sent_bytes
from .simulation import DURATIONS, simulate
from .timeline import Timeline

__all__ = ["DURATIONS", "Event", "Timeline", "sent_bytes", "simulate"]
