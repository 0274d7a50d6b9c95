"""What a run learns by: its first parameters, its optimizer, its steps.

The loop asks a `Method` and knows of none in particular. `SUPERVISED`, the
default, minimises the task's loss.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from jax.sharding import Mesh

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.models.typing import Params
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import train_step
from mobilebert_jax.training.optimizer import Optimizer, make_optimizer
from mobilebert_jax.training.train_step import TrainStep


@dataclasses.dataclass(frozen=True)
class Method:
  """How a run of a known length learns. Steps are counted from 1.

  Attributes:
    optimizer: the optimizer, with the learning rates of all steps.
    step: number -> the compiled step. The loop asks before each step, in their
      order, so a step may be compiled when it is first asked for.
    initial_params: the model's parameters on their devices, drawn or loaded ->
      those that training begins with, with the same shardings.
    is_eligible: number -> whether the model after this step may be the best; 0
      is the model before training.
    message: number -> what to tell the user before this step, from which on
      another program runs; None: nothing, the program stays.
    record: JSON values that must be the same when a run is continued.
    notes: sentences for the user at the start of a run.
  """

  optimizer: Optimizer
  step: Callable[[int], TrainStep]
  initial_params: Callable[[Params], Params] = lambda params: params
  is_eligible: Callable[[int], bool] = lambda number: True
  message: Callable[[int], str | None] = lambda number: None
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


class MethodInputs(NamedTuple):
  """What a method is built from.

  Attributes:
    config: the run.
    task: its task.
    model: the model that learns.
    tokenizer: what its data is encoded with.
    mesh: the mesh, which is set whenever a step is called.
    source_layers: of a new run, the number of blocks of `config.init`, of which
      the model may have some; None: from scratch.
  """

  config: TrainConfig
  task: Task
  model: nn.Module
  tokenizer: MobileBertTokenizerFast
  mesh: Mesh
  source_layers: int | None = None


@dataclasses.dataclass(frozen=True)
class MethodBuilder:
  """Builds the method of a run in two parts, around the encoding of the data.

  Attributes:
    prepare: finds and checks all that the method reads (an InputError says what
      is wrong), before the data is encoded; the result, given the number of
      steps that follows from the data, makes the method.
    default_tokenizer: config -> the tokenizer of a run from scratch whose
      config names none; None: there is none.
  """

  prepare: Callable[[MethodInputs], Callable[[int], Method]]
  default_tokenizer: Callable[[TrainConfig], str | None] = lambda config: None


def supervised_step(inputs: MethodInputs, tx: Optimizer) -> TrainStep:
  """Compiles the step that minimises the task's loss.

  Args:
    inputs: the run; the step is compiled under its mesh.
    tx: the optimizer.
  """
  config = inputs.config
  return train_step.make_train_step(
    inputs.model,
    inputs.task.loss,
    tx,
    inputs.mesh,
    config.accumulation_steps,
    config.nonfinite == 'skip',
    config.mesh.param_sharding,
  )


def _prepare_supervised(inputs: MethodInputs) -> Callable[[int], Method]:
  def method(total_steps: int) -> Method:
    tx = make_optimizer(inputs.config.optimizer, total_steps)
    compiled = functools.cache(lambda: supervised_step(inputs, tx))
    return Method(tx, lambda number: compiled())

  return method


SUPERVISED = MethodBuilder(_prepare_supervised)
