"""LAMB with layer-wise rates, compiled for TPUs by libtpu (extra 'tpu')."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.tpu_compile import topology
from mobilebert_jax.training import layerwise, optimizer, train_step
from mobilebert_jax.training import mesh as device_mesh
from tests.support import libtpu, steps
from tests.support.numpy_lamb import LAMB

pytestmark = [pytest.mark.scale, pytest.mark.tpu, libtpu.needed]
LAYERS = 4


def test_layer_wise_updates_stay_where_their_parameters_are():
  """No matrix of moments or parameters is sent around, only norms.

  Keys, queries and the attention's output are matrices of one shape, of which
  'fsdp' divides only the last.
  """
  config = MobileBertConfig(vocab_size=512, num_hidden_layers=LAYERS)
  compute = models.Compute(dtype='bfloat16')
  model = models.MobileBertForSequenceClassification(config, compute)
  rates = layerwise.Rates(
    lambda step: jnp.float32(1e-3),
    lambda step: (jnp.arange(LAYERS) <= step // 100).astype(float),
    lambda step: jnp.ones(()),
  )
  tx = optimizer.make_optimizer(OptimizerConfig(**LAMB), 400, rates)
  devices = topology.parse('v5e:2x2').devices()
  mesh = device_mesh.make_mesh(1, 4, 1, devices)
  place = device_mesh.batch_sharding(mesh)
  batch = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    for name, x in steps.make_batch(size=16, length=64).items()
  }
  with jax.set_mesh(mesh):
    state, _ = train_step.abstract_state(model, tx, mesh)
    step = train_step.make_train_step(model, steps.loss, tx, mesh)
    text = step.lower(state, batch).compile().as_text()
  # What the model reads is collected in bfloat16; masters, moments and updates
  # are float32, and a matrix of all blocks has 65,536 numbers.
  sent = re.findall(
    r'= (?:f32|pred)\[([\d,]*)\]\S* '
    r'(?:all-to-all|all-gather|all-reduce|collective-permute)(?:-start)?\(',
    text,
  )
  sizes = [np.prod([int(n) for n in dims.split(',') if n]) for dims in sent]
  assert sizes and max(sizes) < LAYERS * 128 * 128, sent
