"""The loss of one stage: what both models compute, and its terms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.distillation import blocks, soft_labels, transfer
from mobilebert_jax.distillation.comparison import Sums
from mobilebert_jax.distillation.soft_labels import NamedTerms
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Keys, Pair
from mobilebert_jax.losses.task import Term
from mobilebert_jax.models import packing
from mobilebert_jax.tasks import Task
from mobilebert_jax.training.gradients import Batch, model_inputs
from mobilebert_jax.training.optimizer import Params

# The terms' values, each a mean by its name.
Means = dict[str, Float[Array, '']]


@flax.struct.dataclass
class Outputs:
  """What a stage's loss is made of.

  Attributes:
    sums: the sums of transfer terms over all that counts; of each layer, [L],
      where all are compared.
    student: the student's outputs, or None if the task does not count.
    teacher: the teacher's, or None if its labels do not count.
  """

  sums: Sums
  student: Any = None
  teacher: Any = None


def labels_softly(config: DistillationConfig, stage: Stage) -> bool:
  """Whether a stage's labels are, in part, the teacher's probabilities."""
  return stage.has_task and config.ground_truth_ratio < 1


class Objective(NamedTuple):
  """The loss of a stage.

  Attributes:
    pair: both models.
    task: the task.
    stage: the stage.
  """

  pair: Pair
  task: Task
  stage: Stage

  def forward(
    self, params: Params, teacher_params: Params, batch: Batch, key: Any
  ) -> Outputs:
    """Runs both models as far as the stage needs them.

    Args:
      params: the student's.
      teacher_params: the teacher's; nothing is learnt through them.
      batch: a batch.
      key: base of dropout's keys.
    """
    teacher_params = jax.lax.stop_gradient(teacher_params)
    keys, every = self._keys(key), (self.pair, params, teacher_params, batch)
    if self.stage.is_progressive:
      return Outputs(transfer.one_layer(*every, self.stage.layers[0], keys))
    if not self.stage.layers:
      return self._distilled(params, teacher_params, batch, keys)
    is_labelling = labels_softly(self.pair.config, self.stage)
    found = transfer.all_layers(*every, keys, to_the_end=is_labelling)
    if not self.stage.has_task:
      return Outputs(found.sums)
    own = blocks.apply_head(
      self.pair.student, params, found.student, batch, keys.student
    )
    if not is_labelling:
      return Outputs(found.sums, own)
    theirs = self._teacher_head(teacher_params, found.teacher, batch, keys)
    return Outputs(found.sums, own, theirs)

  def terms(
    self, outputs: Outputs, batch: Batch
  ) -> tuple[NamedTerms, NamedTerms]:
    """The terms of the loss, and those that are only to be told.

    Args:
      outputs: from `forward`.
      batch: a batch as `Task.loss` gets it.
    """
    config, layers = self.pair.config, self.stage.layers
    weight = len(layers) * jnp.sum(transfer.counts(config, batch))
    divisor = self.pair.student.config.num_hidden_layers
    if config.divide_by == 'stage':
      divisor = layers[0] + 1 if layers else divisor
    found = {
      name: Term(
        jnp.sum(sums), weight, config.factors[name] * len(layers) / divisor
      )
      for name, sums in outputs.sums.items()
    }
    if not self.stage.has_task:
      return found, {}
    hard = self.task.loss(outputs.student, batch)
    distilled, told = soft_labels.terms(
      hard, outputs.student, outputs.teacher, batch, config,
      self.task.problem_type,
    )  # fmt: skip
    return found | distilled, told

  def weights(
    self, params: Params, teacher_params: Params, batch: Batch
  ) -> Means:
    """The weight of each term over a whole batch.

    Weights depend on the batch alone, so outputs that are all zero have the
    right ones (`gradients.total_weights`).
    """
    key = jax.random.key(0)
    shapes = jax.eval_shape(self.forward, params, teacher_params, batch, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    found, told = self.terms(zeros, packing.per_example(batch))
    return {
      name: jnp.asarray(term.weight) for name, term in (found | told).items()
    }

  def _distilled(
    self, params: Params, teacher_params: Params, batch: Batch, keys: Keys
  ) -> Outputs:
    own = _apply(self.pair.student, params, batch, keys.student)
    if self.pair.config.temperature_on == 'logits':
      theirs = _apply(self.pair.teacher, teacher_params, batch, keys.teacher)
      return Outputs({}, own, theirs)
    teacher = self.pair.teacher
    x, mask = blocks.embed(teacher, teacher_params, batch, keys.teacher)
    layers = blocks.stacked(teacher_params)
    hidden = blocks.run(teacher, layers, x, mask, keys.teacher)
    theirs = self._teacher_head(
      teacher_params, hidden.last_hidden_state, batch, keys
    )
    return Outputs({}, own, theirs)

  def _teacher_head(
    self, params: Params, hidden: Array, batch: Batch, keys: Keys
  ) -> Any:
    config = self.pair.config
    if config.temperature_on == 'sequence_output':
      hidden = hidden * jnp.asarray(config.temperature, hidden.dtype)
    return blocks.apply_head(
      self.pair.teacher, params, hidden, batch, keys.teacher
    )

  def _keys(self, key: Key[Array, '']) -> Keys:
    """Keys for those of the two models that have dropout."""
    where = self.pair.config.dropout
    student, teacher = jax.random.split(key)
    return Keys(
      student if where != 'off' else None,
      teacher if where == 'both' else None,
    )


def gradient_fn(
  objective: Objective, teacher_params: Params
) -> Callable[..., Any]:
  """The gradient of what some rows contribute to a batch's loss.

  Returns:
    (params, rows, weights of the whole batch, key) -> ((the rows' part of the
    loss, of each term's mean), gradient). Parts of rows add up, as in
    `gradients.gradient_fn`, so `gradients.accumulated` takes it.
  """

  def part_of_loss(params, batch, weights, key):
    outputs = objective.forward(params, teacher_params, batch, key)
    found, told = objective.terms(outputs, packing.per_example(batch))
    means = {n: term.sum / weights[n] for n, term in (found | told).items()}
    return sum(term.scale * means[n] for n, term in found.items()), means

  return jax.value_and_grad(part_of_loss, has_aux=True)


def _apply(model: Any, params: Params, batch: Batch, key: Any) -> Any:
  return model.apply(
    {'params': params},
    **model_inputs(batch),
    deterministic=key is None,
    rngs=None if key is None else {'dropout': key},
  )
