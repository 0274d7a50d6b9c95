"""Own gradients are JAX's, in a form that is fast on a CPU."""

import dataclasses
import re

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.models import own_gradients
from mobilebert_jax.models.remat import REMAT_POLICIES
from tests.support import cases

# Accumulation differs in its order alone.
TOLERANCES = {'float32': 1e-5, 'bfloat16': 2e-2, 'float64': 1e-12}


def arrays(shape, features, dtype):
  rng = np.random.default_rng(0)
  sizes = (shape, (shape[-1], features), (features,))
  return [jnp.asarray(rng.standard_normal(size), dtype) for size in sizes]


def plain(x, kernel, bias):
  y = jnp.dot(x, kernel)
  return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def gradients(function, operands):
  y, to_operands = jax.vjp(function, *operands)
  seed = np.random.default_rng(1).standard_normal(y.shape)
  return y, *to_operands(jnp.asarray(seed, y.dtype))


@pytest.mark.parametrize('dtype', list(TOLERANCES))
@pytest.mark.parametrize('shape', [(6, 24), (3, 5, 24), (2, 3, 5, 24)])
@pytest.mark.parametrize('features', [8, 24, 40])
def test_equal_to_the_derived_ones(shape, features, dtype):
  with jax.enable_x64(dtype == 'float64'):
    operands = arrays(shape, features, dtype)
    found = gradients(own_gradients.affine, operands)
    # bfloat16 by its exact sums: the derived ones are rounded on the way.
    exact = [
      x.astype('float32') if dtype == 'bfloat16' else x for x in operands
    ]
    wanted = gradients(plain, exact)
    for one, other in zip(found, wanted):
      assert one.dtype == dtype
      largest = float(jnp.max(jnp.abs(other)))
      np.testing.assert_allclose(
        one.astype(other.dtype), other, rtol=0, atol=TOLERANCES[dtype] * largest
      )


@pytest.mark.parametrize(('policy', 'more'), [('dots', 0), ('full', 1)])
def test_policies_of_rematerialisation_see_the_product(policy, more):
  def products(function):
    both = jax.value_and_grad(lambda *a: jnp.sum(function(*a)), (0, 1, 2))
    lowered = jax.jit(both).lower(*arrays((3, 5, 24), 8, 'float32'))
    return lowered.as_text().count('stablehlo.dot_general')

  def layer(*operands):
    return jnp.sin(own_gradients.affine(*operands))

  again = jax.checkpoint(layer, policy=REMAT_POLICIES[policy])
  assert products(again) == products(layer) + more


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_relu_is_the_same_to_the_bit(dtype):
  x = jnp.asarray([-jnp.inf, -2, -0.0, 0, 1e-30, 3, jnp.inf, jnp.nan], dtype)
  found, wanted = (
    gradients(function, [x]) for function in (own_gradients.relu, jax.nn.relu)
  )
  for one, other in zip(found, wanted):
    # NumPy's comparison does not know bfloat16's NaN.
    np.testing.assert_array_equal(*(np.float32(x) for x in (one, other)))


def test_sums_over_queries():
  rng = np.random.default_rng(0)
  weights = jnp.asarray(rng.standard_normal((2, 3, 5, 7)), 'float32')
  x = jnp.asarray(rng.standard_normal((2, 3, 5, 4)), 'float32')
  np.testing.assert_allclose(
    jax.jit(own_gradients.over_queries)(weights, x),
    jnp.einsum('BHTS,BHTK->BHSK', weights, x),
    rtol=1e-5,
    atol=1e-6,
  )


def test_gradients_of_each_example():
  operands = arrays((4, 5, 24), 8, 'float32')

  def each(function):
    one = jax.grad(lambda *a: jnp.sum(jnp.square(function(*a))), (0, 1, 2))
    return jax.vmap(one, (0, None, None))(*operands)

  chex.assert_trees_all_close(
    each(own_gradients.affine), each(plain), rtol=1e-5
  )


@pytest.mark.parametrize('name', ['classification', 'masked_lm'])
@pytest.mark.parametrize('norm', ['no_norm', 'layer_norm'])
def test_a_model_has_the_same_gradient(name, norm):
  with jax.enable_x64(True):
    config = mb.MobileBertConfig(
      **cases.SMALL | {'normalization_type': norm}
    ).replace(**cases.head_config(name))
    model = getattr(mb, cases.HEADS[name])(
      config, mb.Compute('float64', 'float64')
    )
    params = mb.init_params(model, jax.random.key(0))
    features, _ = cases.inputs(cases.SMALL, name)

    def gradient(model):
      def loss(params):
        return jnp.sum(
          jnp.square(model.apply({'params': params}, **features)[0])
        )

      return flax.traverse_util.flatten_dict(jax.grad(loss)(params), sep='/')

    wanted = gradient(model)
    own = dataclasses.replace(
      model.compute, gradients='own', attention_dropout='hash'
    )
    found = gradient(model.clone(compute=own))
    largest = max(float(jnp.max(jnp.abs(x))) for x in wanted.values())
    assert any(np.any(found[key] != wanted[key]) for key in wanted)
    for key, value in found.items():
      np.testing.assert_allclose(
        value, wanted[key], rtol=0, atol=1e-12 * largest, err_msg=key
      )


@pytest.mark.parametrize('features', [32, 128])
def test_products_read_in_the_order_that_has_a_kernel(features):
  """None sums over the first axis of its left operand."""
  operands = arrays((4, 64, 64), features, 'bfloat16')

  @jax.jit
  def step(*operands):
    return gradients(own_gradients.affine, operands)

  text = step.lower(*operands).compile().as_text()
  # JAX's own are compiled to such ones by jax 0.12.
  found = re.findall(r' dot\(.*lhs_contracting_dims=\{([\d,]*)\}', text)
  assert set(found) == {'1'}
