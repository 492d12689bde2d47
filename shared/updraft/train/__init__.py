"""Makes the rungs of a model ladder: text from the model itself, a cache of what it thinks of it, distillation.

Needs the extra `train` (torch). It runs on the CPU unless there is a GPU; seeds are fixed; every step of a run leaves
files in the run's folder from which an interrupted run goes on to the same result. Its modules import torch at once,
so that the rest of Updraft imports them only where training is asked for.
"""

from __future__ import annotations

__all__: list[str] = []
