"""What orbax is told about the parts of a checkpoint."""

import logging
from typing import Any

from mobilebert_jax.runtime import digests

# orbax logs several lines for each save through absl, warnings among them that
# an array format has nothing to merge, and an error many times over; what
# matters arrives as an exception.
_QUIET = ('absl', 'orbax', 'asyncio')


def quiet():
  """Leaves the telling of what went wrong to the exceptions that are raised."""
  for name in _QUIET:
    logging.getLogger(name).setLevel(logging.CRITICAL)


def manager_class() -> Any:
  """Orbax's CheckpointManager, less its own look at preemption."""
  import orbax.checkpoint as ocp

  class Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
      # orbax would ask JAX's preemption service with numbers of its own, which
      # must not mix with those of `preemption.Watch`.
      del step
      return False

  return Manager


def registry() -> Any:
  """Which part of a checkpoint is read and written by what."""
  import orbax.checkpoint as ocp

  # A directory for each array. The merged format (OCDBT) has been seen to lose
  # an array's header on a busy machine, and the save then fails; with layers
  # stacked there are few arrays anyway.
  arrays = _with_digests(ocp.StandardCheckpointHandler)
  facts = _with_digests(ocp.JsonCheckpointHandler)()
  found = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for part in ('params', 'rest'):
    handler = arrays(use_ocdbt=False)
    found.add(part, ocp.args.StandardSave, handler)
    found.add(part, ocp.args.StandardRestore, handler)
  found.add('facts', ocp.args.JsonSave, facts)
  found.add('facts', ocp.args.JsonRestore, facts)
  return found


def _with_digests(kind: Any) -> Any:
  """A kind of handler that also writes the digests of its files.

  orbax calls `finalize` on one process, when all processes have written, and
  before the checkpoint gets its name.
  """

  class Digested(kind):
    def finalize(self, directory: Any):
      super().finalize(directory)
      digests.write(directory)

  return Digested
