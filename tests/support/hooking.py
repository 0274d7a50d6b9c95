"""Hooks and methods for tests that look into runs, or make them fail."""

import dataclasses
import functools
from collections.abc import Callable

from mobilebert_jax import launch
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.tasks import Task
from mobilebert_jax.training import setup
from mobilebert_jax.training.hooks import Hook
from mobilebert_jax.training.method import (
  SUPERVISED,
  MethodBuilder,
  MethodInputs,
)
from mobilebert_jax.training.train_step import TrainStep

_HOOKS: list[Hook] = []


def add(hook: Hook):
  """Adds a hook to every run that a command starts in this process."""
  if not _HOOKS:
    launch.train = functools.partial(launch.train, hooks=_HOOKS)
  _HOOKS.append(hook)


def changed_steps(
  change: Callable[[int, TrainStep], TrainStep],
  prepare: Callable[[MethodInputs], MethodInputs] = lambda inputs: inputs,
) -> MethodBuilder:
  """Supervised training with other steps.

  Args:
    change: (number, its compiled step) -> what is called instead.
    prepare: changes what the method is built from, such as its task.
  """

  def prepared(inputs):
    method_for = SUPERVISED.prepare(prepare(inputs))

    def changed(total_steps):
      method = method_for(total_steps)
      return dataclasses.replace(
        method, step=lambda number: change(number, method.step(number))
      )

    return changed

  return MethodBuilder(prepared)


def find_task_with_scores(
  change: Callable[[dict[str, float]], dict[str, float]],
) -> Callable[[TrainConfig], Task]:
  """`setup.find_task` for tasks with other scores.

  Args:
    change: the scores of an evaluation -> what is taken for them.
  """
  find_task = setup.find_task

  def found(config):
    task = find_task(config)
    return dataclasses.replace(
      task, score=lambda *args: change(task.score(*args))
    )

  return found
