"""What it costs to bring a cache back, by computing it or by reading it: measured while the cloud runs."""

from __future__ import annotations

from updraft.engine.loop import PassRecord

__all__ = ["Costs", "Measured"]


class Measured:
    """A moving average (weight 1/5) that begins with a guess and forgets it with the first measurement."""

    def __init__(self, guess: float) -> None:
        self.value = guess
        self.known = False

    def note(self, value: float) -> None:
        self.value += (value - self.value) * (0.2 if self.known else 1.0)
        self.known = True


class Costs:
    """Seconds for so many positions of a cache. The guesses are those of a small model on a processor.

    Attributes:
        position_s: computing one position of a prompt.
        fork_s: copying one position into another sequence; nothing at first, so that it is tried.
        save_s, restore_s: one byte out of the engine and back.
        write_s, read_s: one byte onto the disk and back.
        bytes: of one position in a saved state.
    """

    def __init__(self) -> None:
        self.position_s = Measured(1e-3)
        self.fork_s = Measured(0.0)
        self.save_s = Measured(1e-9)
        self.restore_s = Measured(1e-9)
        self.write_s = Measured(5e-9)
        self.read_s = Measured(5e-9)
        self.bytes = Measured(32e3)

    def note_pass(self, record: PassRecord) -> None:
        """Learn from a pass that was mostly prefill."""
        parts = (record.verify, record.write, record.score, record.prefill)
        positions = sum(part.positions for part in parts)
        if record.prefill.positions * 2 > positions:
            self.position_s.note(record.seconds / positions)

    def compute(self, positions: int) -> float:
        return positions * self.position_s.value

    def save(self, positions: int) -> float:
        return positions * self.bytes.value * self.save_s.value

    def restore(self, positions: int) -> float:
        measured = self.restore_s if self.restore_s.known else self.save_s
        return positions * self.bytes.value * measured.value

    def write(self, positions: int) -> float:
        return positions * self.bytes.value * self.write_s.value

    def read(self, positions: int) -> float:
        return positions * self.bytes.value * self.read_s.value

    def fork(self, positions: int) -> float:
        return positions * self.fork_s.value

    def bring_back(self, positions: int) -> float:
        """The cheaper of computing anew, and saving now and restoring then."""
        return min(self.compute(positions), self.save(positions) + self.restore(positions))
