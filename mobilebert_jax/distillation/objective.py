"""The loss of one stage: what both models compute, and its terms.

With the transfer's sums S_t over layers and positions, the weight W of all
positions, L layers compared, and the terms D_i of a distilled task,

  loss = sum_t factor_t (L / divisor) S_t / (L W) + sum_i scale_i D_i,

where a stage has one part or both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.distillation import blocks, soft_labels, transfer
from mobilebert_jax.distillation.soft_labels import NamedTerms
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Keys, Pair, Sums
from mobilebert_jax.losses import Term
from mobilebert_jax.models import packing
from mobilebert_jax.models.typing import Batch, Metrics, Params
from mobilebert_jax.tasks import Task
from mobilebert_jax.training.train_step import model_inputs


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


def has_soft_labels(config: DistillationConfig, stage: Stage) -> bool:
  """Returns whether a stage's labels are, in part, the teacher's."""
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
    reads_labels = has_soft_labels(self.pair.config, self.stage)
    compared = transfer.all_layers(*every, keys, to_the_end=reads_labels)
    if not self.stage.has_task:
      return Outputs(compared.sums)
    student = blocks.apply_head(
      self.pair.student, params, compared.student, batch, keys.student
    )
    if not reads_labels:
      return Outputs(compared.sums, student)
    teacher = self._teacher_head(teacher_params, compared.teacher, batch, keys)
    return Outputs(compared.sums, student, teacher)

  def terms(
    self, outputs: Outputs, batch: Batch
  ) -> tuple[NamedTerms, NamedTerms]:
    """Returns the terms of the loss, and those that are only logged.

    Args:
      outputs: from `forward`.
      batch: a batch as `Task.loss` gets it.
    """
    config, layers = self.pair.config, self.stage.layers
    weight = len(layers) * jnp.sum(transfer.counts(config, batch))
    divisor = self.pair.student.config.num_hidden_layers
    if config.divide_by == 'stage':
      divisor = layers[0] + 1 if layers else divisor
    transferred = {
      name: Term(
        jnp.sum(sums), weight, config.factors[name] * len(layers) / divisor
      )
      for name, sums in outputs.sums.items()
    }
    if not self.stage.has_task:
      return transferred, {}
    hard = self.task.loss(outputs.student, batch)
    distilled, logged = soft_labels.soft_terms(
      hard, outputs.student, outputs.teacher, batch, config,
      self.task.problem_type,
    )  # fmt: skip
    return transferred | distilled, logged

  def weights(
    self, params: Params, teacher_params: Params, batch: Batch
  ) -> Metrics:
    """Returns the weight of each term over a whole batch.

    Weights depend on the batch alone, so outputs that are all zero have the
    right ones (`train_step.total_weights`).
    """
    key = jax.random.key(0)
    shapes = jax.eval_shape(self.forward, params, teacher_params, batch, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    terms, logged = self.terms(zeros, packing.per_example(batch))
    return {
      name: jnp.asarray(term.weight) for name, term in (terms | logged).items()
    }

  def _distilled(
    self, params: Params, teacher_params: Params, batch: Batch, keys: Keys
  ) -> Outputs:
    student = _apply(self.pair.student, params, batch, keys.student)
    if self.pair.config.temperature_on == 'logits':
      teacher = _apply(self.pair.teacher, teacher_params, batch, keys.teacher)
      return Outputs({}, student, teacher)
    model = self.pair.teacher
    x, mask = blocks.embed(model, teacher_params, batch, keys.teacher)
    layers = blocks.stacked(teacher_params)
    hidden = blocks.run(model, layers, x, mask, keys.teacher)
    teacher = self._teacher_head(
      teacher_params, hidden.last_hidden_state, batch, keys
    )
    return Outputs({}, student, teacher)

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
    """Returns keys for those of the two models that have dropout."""
    where = self.pair.config.dropout
    student, teacher = jax.random.split(key)
    return Keys(
      student if where != 'off' else None,
      teacher if where == 'both' else None,
    )


def gradient_fn(
  objective: Objective, teacher_params: Params
) -> Callable[..., Any]:
  """Returns the gradient of what some rows contribute to a batch's loss.

  Returns:
    (params, rows, weights of the whole batch, key) -> ((the rows' part of the
    loss, of each term's mean), gradient). Parts of rows add up, as in
    `train_step.gradient_fn`, so `train_step.accumulate` takes it.
  """

  def part_of_loss(params, batch, weights, key):
    outputs = objective.forward(params, teacher_params, batch, key)
    terms, logged = objective.terms(outputs, packing.per_example(batch))
    means = {n: term.sum / weights[n] for n, term in (terms | logged).items()}
    return sum(term.scale * means[n] for n, term in terms.items()), means

  return jax.value_and_grad(part_of_loss, has_aux=True)


def _apply(model: Any, params: Params, batch: Batch, key: Any) -> Any:
  return model.apply(
    {'params': params},
    **model_inputs(batch),
    deterministic=key is None,
    rngs=None if key is None else {'dropout': key},
  )
