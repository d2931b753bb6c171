"""How long an action took: by the CPU's clock, or by that of the GPU that computes it."""

import time

import torch


class Stopwatch:
    """Measures one action after another on a device.

    A GPU is handed its work and computes later, so there the time between two CUDA events counts,
    and `stop` waits for the second. No GPU has run this yet.

    Parameters
    ----------
    device : torch.device or None
        Where the stage computes; None is the CPU.

    Examples
    --------
    >>> watch = Stopwatch(torch.device("cpu"))
    >>> watch.start()
    >>> begun, ended = watch.stop()
    >>> begun <= ended
    True
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device
        self._begun = 0.0
        self._first: torch.cuda.Event | None = None

    def start(self) -> None:
        """Begin an action."""
        on_gpu = self._device is not None and self._device.type == "cuda"
        self._first = self._cuda_event() if on_gpu else None
        self._begun = time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """Return when the action began and ended, as readings of ``time.perf_counter``."""
        if self._first is None:
            return self._begun, time.perf_counter()
        last = self._cuda_event()
        last.synchronize()
        ended = time.perf_counter()
        return ended - self._first.elapsed_time(last) / 1000, ended

    def _cuda_event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
