"""Weak scaling by what the compiled programs compute, move and send.

The batch grows with the devices. Nothing runs: FLOPs, bytes and communication
of one device are counted in the compiled step, each loop as often as it runs.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from mobilebert_jax import losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.tpu_compile.hlo import counts as hlo_counts
from mobilebert_jax.training import evaluate, optimizer, train_step
from mobilebert_jax.training import mesh as device_mesh
from tests.support import marks

pytestmark = pytest.mark.scale

ROWS, LENGTH = 8, 16
# The student's shape: bottlenecks, four feed-forward networks, NoNorm; with
# dropout, whose masks must not be sent around.
STUDENT = MobileBertConfig.mobilebert(
  vocab_size=96, hidden_size=64, intra_bottleneck_size=32, embedding_size=16,
  num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
  max_position_embeddings=LENGTH, hidden_dropout_prob=0.1, num_labels=3,
)  # fmt: skip
HEADS = {
  'masked_lm': models.MobileBertForMaskedLM(STUDENT),
  'classification': models.MobileBertForSequenceClassification(STUDENT),
}
ADAMW = optimizer.make_optimizer(OptimizerConfig(), 100)
DEVICES = (1, 2, 4, 8)
# Four compilations with a loop around a loop. That micro-batches compute and
# send alike on eight devices is told by the two tests behind it.
STEPS = marks.long_but((1,), (1, 4))
# Float32 numbers that are summed up beside the gradient: the loss and its
# weight.
SCALARS = 4 + 4


def masked_lm_loss(outputs, batch):
  return losses.masked_lm_loss(outputs.logits, batch['labels'])


def classification_loss(outputs, batch):
  return losses.classification_loss(outputs.logits, batch['labels'][:, 0])


LOSSES = {
  'masked_lm': masked_lm_loss,
  'classification': classification_loss,
}


def make_batch(rows, mesh):
  columns = ('input_ids', 'attention_mask', 'token_type_ids', 'labels')
  place = device_mesh.batch_sharding(mesh)
  shape = jax.ShapeDtypeStruct((rows, LENGTH), jnp.int32, sharding=place)
  return dict.fromkeys(columns, shape)


@functools.cache
def step_of(head, devices, accumulation_steps=1):
  """One compiled step, with `ROWS` rows on each device in a micro-batch."""
  model, loss = HEADS[head], LOSSES[head]
  mesh = device_mesh.make_mesh(devices, devices=jax.devices()[:devices])
  with jax.set_mesh(mesh):
    state, _ = train_step.abstract_state(model, ADAMW, mesh)
    step = train_step.make_train_step(
      model, loss, ADAMW, mesh, accumulation_steps
    )
    batch = make_batch(ROWS * devices * accumulation_steps, mesh)
    return step.lower(state, batch).compile()


@functools.cache
def counts_of(*settings):
  return hlo_counts.count(step_of(*settings).as_text())


def parameter_bytes(head, path=()):
  tree = models.abstract_params(HEADS[head])
  for name in path:
    tree = tree[name]
  return 4 * models.count_params(tree)


def assert_constant(values):
  assert min(values) > 0
  assert max(values) / min(values) < 1.03, values


@pytest.mark.parametrize('accumulation_steps', STEPS)
def test_a_device_computes_and_moves_the_same_on_any_number(accumulation_steps):
  settings = [('masked_lm', n, accumulation_steps) for n in DEVICES]
  assert_constant([counts_of(*s).flops for s in settings])
  assert_constant([counts_of(*s).bytes for s in settings])
  # XLA's own counts, in which a loop counts once.
  costs = [step_of(*s).cost_analysis() for s in settings]
  assert_constant([cost['flops'] for cost in costs])
  memory = [step_of(*s).memory_analysis() for s in settings]
  assert_constant([m.argument_size_in_bytes for m in memory])
  # The gradient that is received needs no more room than that.
  room = [m.temp_size_in_bytes for m in memory]
  assert max(room) - room[0] < 3 * parameter_bytes('masked_lm')


def test_micro_batches_compute_as_often_as_there_are():
  one, four = (counts_of('masked_lm', 8, steps) for steps in (1, 4))
  assert four.flops == pytest.approx(4 * one.flops, rel=1e-3)


@pytest.mark.parametrize('devices', marks.long_but((8,), DEVICES[1:]))
def test_micro_batches_send_the_gradient_once(devices):
  """Not in every micro-batch; and nothing else but two numbers."""
  counts = counts_of('masked_lm', devices, 4)
  assert {c.kind for c in counts.collectives} == {'all-reduce'}
  assert [c for c in counts.collectives if c.loops] == []
  sent = counts.collective_bytes('all-reduce')
  assert sent == parameter_bytes('masked_lm') + SCALARS


def test_a_single_batch_sends_the_gradient_once():
  """Layer by layer, while the backward pass computes the next one's."""
  counts = counts_of('classification', 8)
  assert {c.kind for c in counts.collectives} == {'all-reduce'}
  sent = counts.collective_bytes('all-reduce')
  assert sent == parameter_bytes('classification') + SCALARS


def test_a_single_batch_sends_a_tied_word_table_twice():
  """Its gradient has two parts, of the look-up and of the decoder.

  The compiler reduces either before it adds them: docs/explanation/scaling.md
  says what was tried. With micro-batches it is sent once (above).
  """
  counts = counts_of('masked_lm', 8)
  table = ('mobilebert', 'embeddings', 'word_embeddings')
  whole = parameter_bytes('masked_lm') + parameter_bytes('masked_lm', table)
  assert counts.collective_bytes() == whole + SCALARS


@pytest.mark.parametrize('has_loss', [True, False])
def test_evaluation_sends_the_loss_alone(has_loss):
  model, mesh = HEADS['masked_lm'], device_mesh.make_mesh(8)
  with jax.set_mesh(mesh):
    step = evaluate.make_eval_step(
      model,
      lambda outputs, batch: {'best': jnp.argmax(outputs.logits, axis=-1)},
      masked_lm_loss if has_loss else None,
    )
    state, _ = train_step.abstract_state(model, ADAMW, mesh)
    compiled = step.lower(state.params, make_batch(64, mesh)).compile()
  counts = hlo_counts.count(compiled.as_text())
  assert counts.flops > 0
  assert counts.collective_bytes() == (SCALARS if has_loss else 0)
  # Every device keeps the predictions of its own rows.
  (place,) = jax.tree.leaves(compiled.output_shardings[0])
  assert place.shard_shape((64, LENGTH)) == (8, LENGTH)
