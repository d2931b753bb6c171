"""When: things that happened, or were simulated to happen, on ranks."""

from .event import Event, sent_bytes
from .recorded_step import RecordedStep
from .simulation import DURATIONS, simulate
from .timeline import Timeline

__all__ = ["DURATIONS", "Event", "RecordedStep", "Timeline", "sent_bytes", "simulate"]
