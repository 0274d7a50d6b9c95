"""Turns a config into a run: chooses the method that the config asks for.

This is what the commands call. It lies above `loop`, which knows of methods in
general, and above each method.
"""

import os
from collections.abc import Sequence
from typing import Any

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.training import loop
from mobilebert_jax.training.hooks import Hook
from mobilebert_jax.training.method import SUPERVISED, MethodBuilder


def method_for(config: TrainConfig) -> MethodBuilder:
  """Returns the method of a config: distillation if it names a teacher."""
  return SUPERVISED if config.distillation.teacher is None else DISTILLATION


def train(
  config: TrainConfig,
  workdir: str | os.PathLike[str],
  hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
  """Trains by the config's method, or continues; see `loop.train`.

  Args:
    config: the run.
    workdir: where everything is written.
    hooks: called at points of the loop.

  Returns:
    What `results.json` holds.

  Raises:
    InputError, NonFiniteError, RunError, Interrupted: as `loop.train`.
  """
  return loop.train(config, workdir, method_for(config), hooks)
