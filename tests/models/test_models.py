"""The architecture: presets, transformations, numerics, names."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

import mobilebert_jax as mb
from mobilebert_jax import models
from mobilebert_jax.models.attention import BlockInputs
from mobilebert_jax.models.embeddings import trigram
from tests.support import cases, marks

Config = mb.MobileBertConfig
SMALL = Config(**cases.SMALL)
IDS = np.arange(1, 15).reshape(2, 7)
HEADS = {
  name: getattr(mb, cases.HEADS[name])
  for name in cases.HEADS
  if name not in ('regression', 'multi_label')
}


@functools.cache
def build(head, config=SMALL, **compute):
  config = config.replace(**cases.head_config(head))
  model = HEADS[head](config, mb.Compute(**compute))
  return model, mb.init_params(model, jax.random.key(0))


@functools.partial(
  jax.jit,
  static_argnums=0,
  static_argnames=('output_hidden_states', 'output_attentions'),
)
def apply(model, params, *args, **kwargs):
  """A model's outputs, compiled once for all inputs of the same shapes."""
  return model.apply({'params': params}, *args, **kwargs)


@pytest.mark.parametrize(
  'model,count',
  [
    (mb.MobileBertForPreTraining(Config.mobilebert()), 36_597_564),
    (mb.MobileBertModel(Config.mobilebert()), 24_581_888),
    (mb.MobileBertModel(Config.mobilebert_without_opt()), 24_581_888),
    (mb.MobileBertModel(Config.mobilebert_tiny()), 15_485_696),
    (mb.MobileBertForPreTraining(Config.mobilebert_tiny()), 27_501_372),
    (mb.MobileBertModel(Config.ib_bert_large()), 294_467_840),
    (
      mb.MobileBertModel(Config.ib_bert_large(), add_pooling_layer=False),
      294_205_184,
    ),
    (mb.MobileBertForPreTraining(Config()), 36_860_220),
    (mb.MobileBertModel(Config()), 24_844_544),
    (mb.MobileBertForMaskedLM(Config()), 36_596_538),
    (mb.MobileBertForNextSentencePrediction(Config()), 24_845_570),
    (mb.MobileBertForSequenceClassification(Config()), 24_845_570),
    (mb.MobileBertForMultipleChoice(Config()), 24_845_057),
    (mb.MobileBertForTokenClassification(Config()), 24_582_914),
    (mb.MobileBertForQuestionAnswering(Config()), 24_582_914),
  ],
)
def test_parameter_count(model, count):
  assert models.count_params(models.abstract_params(model)) == count


def normal(width):
  return jax.random.normal(jax.random.key(1), (2, 7, width))


def part(module, x):
  """A module's function and its arguments."""
  init = jax.jit(module.init)
  return module.apply, (nn.unbox(init(jax.random.key(0), x)), x)


def with_head(head):
  """A model's function and its arguments."""
  # One small block: without jit every operation compiles on its own.
  config = SMALL.replace(num_hidden_layers=1, num_feedforward_networks=1)
  features, _ = cases.inputs(cases.SMALL, head)
  model, params = build(head, config)
  return (
    lambda params, features: model.apply({'params': params}, **features),
    (params, features),
  )


@functools.cache
def under_jit(make):
  """A function, its arguments and its result, for all the other ways."""
  function, args = make()
  return function, args, jax.tree.leaves(jax.jit(function)(*args))


def embeddings():
  return part(models.MobileBertEmbeddings(SMALL), IDS)


def bottleneck():
  return part(models.Bottleneck(SMALL), normal(SMALL.hidden_size))


def attention():
  narrow = normal(SMALL.true_hidden_size)
  wide = normal(SMALL.hidden_size)
  inputs = BlockInputs(narrow, narrow, wide, narrow)
  return part(models.SelfAttention(SMALL), inputs)


def feed_forward_stack():
  return part(models.FeedForwardStack(SMALL), normal(SMALL.true_hidden_size))


WITH_HEAD = {name: functools.partial(with_head, name) for name in HEADS}


@pytest.mark.slow
class VariantsTest(chex.TestCase):
  """Everything gives the same with jit, without it and under pmap."""

  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  def test_embeddings(self):
    self._check(embeddings)

  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  def test_bottleneck(self):
    self._check(bottleneck)

  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  def test_attention(self):
    self._check(attention)

  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  def test_feed_forward_stack(self):
    self._check(feed_forward_stack)

  @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
  @parameterized.named_parameters((name, name) for name in HEADS)
  def test_head(self, head):
    self._check(WITH_HEAD[head])

  def _check(self, make):
    function, args, expected = under_jit(make)
    got = jax.tree.leaves(self.variant(function)(*args))
    chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(x).all() for x in got)


@functools.cache
def _gradients(layers, remat):
  """Loss and gradients with dropout, from one set of parameters."""
  config = SMALL.replace(hidden_dropout_prob=0.1, num_feedforward_networks=1)
  _, params = build('classification', config)
  compute = mb.Compute(layers=layers, remat=remat)
  model = mb.MobileBertForSequenceClassification(config, compute)

  def loss(params):
    out = model.apply(
      {'params': params},
      IDS,
      deterministic=False,
      rngs={'dropout': jax.random.key(1)},
    )
    return jnp.sum(jnp.square(out.logits))

  return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(
  'remat',
  marks.slow_but(('full', 'attention'), ('none', 'full', 'dots', 'attention')),
)
@pytest.mark.parametrize('layers', ['scan', 'loop'])
def test_loops_and_remat_agree(layers, remat):
  """One checkpoint, one result, one gradient - dropout included."""
  expected = _gradients('scan', 'none')
  largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
  chex.assert_trees_all_close(
    _gradients(layers, remat), expected, rtol=0, atol=1e-5 * largest
  )


@pytest.mark.slow
def test_loop_is_straight_line_code():
  def whiles(layers):
    model, params = build('masked_lm', layers=layers)
    forward = jax.jit(lambda p: model.apply({'params': p}, IDS).logits)
    return forward.lower(params).as_text().count('stablehlo.while')

  assert whiles('scan') == 1
  assert whiles('loop') == 0


@pytest.mark.slow
def test_remat_recomputes():
  """The backward pass of a rematerialised model keeps less."""

  def temporary(remat):
    config = SMALL.replace(num_hidden_layers=6, num_feedforward_networks=1)
    model, params = build('masked_lm', config, remat=remat)
    ids = np.ones((16, 16), np.int32)

    def loss(params):
      return jnp.sum(model.apply({'params': params}, ids).logits)

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary('full') < temporary('narrow') < temporary('dots')
  assert temporary('dots') < temporary('attention') < temporary('none')


@pytest.mark.parametrize('layers', ['scan', 'loop'])
def test_remat_of_attention_recomputes_scores_alone(layers):
  """One product more than without."""
  # One block: whether several are one function of the program is jax's choice.
  config = SMALL.replace(num_hidden_layers=1, num_feedforward_networks=1)
  products = {}
  for remat in ('none', 'attention'):
    model, params = build('classification', config, layers=layers, remat=remat)

    def loss(params, model=model):
      out = model.apply(
        {'params': params},
        IDS,
        deterministic=False,
        rngs={'dropout': jax.random.key(1)},
      )
      return jnp.sum(jnp.square(out.logits))

    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    products[remat] = text.count('stablehlo.dot_general')
  assert products['attention'] == products['none'] + 1


@pytest.mark.slow
def test_vmap_over_examples():
  model, params = build('classification')

  def of_one(ids):
    return model.apply({'params': params}, ids[None]).logits[0]

  chex.assert_trees_all_close(
    jax.jit(jax.vmap(of_one))(IDS), apply(model, params, IDS).logits, rtol=1e-5
  )


@pytest.mark.slow
def test_vmap_over_models():
  """An ensemble: parameters of several models stacked."""
  model, one = build('classification')
  two = mb.init_params(model, jax.random.key(5))
  stacked = jax.tree.map(lambda *x: jnp.stack(x), one, two)

  def logits(params):
    return apply(model, params, IDS).logits

  got = jax.jit(jax.vmap(logits))(stacked)
  chex.assert_trees_all_close(
    got, jnp.stack([logits(one), logits(two)]), rtol=1e-5, atol=1e-6
  )


def test_eval_shape_of_the_teacher():
  model = mb.MobileBertForPreTraining(Config.ib_bert_large())
  params = models.abstract_params(model)
  out = jax.eval_shape(
    lambda p, ids: model.apply({'params': p}, ids, output_attentions=True),
    params,
    jax.ShapeDtypeStruct((2, 512), jnp.int32),
  )
  assert out.prediction_logits.shape == (2, 512, 30522)
  assert len(out.attentions) == 24
  assert out.attentions[0].shape == (2, 4, 512, 512)


def test_export_runs_elsewhere():
  """jax.export traces the model for a platform that is not here."""
  model, params = build('classification')
  exported = jax.export.export(
    jax.jit(lambda p, ids: model.apply({'params': p}, ids)['logits']),
    platforms=['tpu', 'cpu'],
  )(params, IDS)
  assert exported.platforms == ('tpu', 'cpu')
  got = exported.call(params, IDS)
  chex.assert_trees_all_close(got, apply(model, params, IDS).logits, rtol=1e-5)


def test_outputs_are_as_in_transformers():
  model, params = build('model')
  out = apply(
    model, params, IDS, output_hidden_states=True, output_attentions=True
  )
  assert len(out.hidden_states) == SMALL.num_hidden_layers + 1
  assert len(out.attentions) == SMALL.num_hidden_layers
  chex.assert_trees_all_equal(out.hidden_states[-1], out.last_hidden_state)
  chex.assert_trees_all_equal(out['last_hidden_state'], out[0])
  np.testing.assert_allclose(out.attentions[0].sum(-1), 1, rtol=1e-6)
  plain = apply(model, params, IDS)
  assert plain.hidden_states is None and plain.attentions is None
  assert plain.keys() == ('last_hidden_state', 'pooler_output')
  assert 'attentions' not in plain and len(plain.to_tuple()) == 2
  with pytest.raises(KeyError):
    plain['attentions']


@pytest.mark.slow
def test_published_config_pools_without_parameters():
  model, params = build('model', SMALL.replace(classifier_activation=False))
  assert 'pooler' not in params
  out = apply(model, params, IDS)
  chex.assert_trees_all_equal(out.pooler_output, out.last_hidden_state[:, 0])


def test_trigram_order():
  """[next, current, previous], zeros past the ends (paper, section 3.1)."""
  x = jnp.arange(1.0, 4.0).reshape(1, 3, 1)
  expected = [[[2, 1, 0], [3, 2, 1], [0, 3, 2]]]
  np.testing.assert_array_equal(trigram(x), expected)


@pytest.mark.slow
def test_more_padding_changes_nothing():
  """Once a pad follows the text: the trigram lets the last token see one."""
  model, params = build('model')
  padded = np.pad(IDS, ((0, 0), (0, 1)))
  longer = np.pad(IDS, ((0, 0), (0, 5)))

  def states(ids):
    return apply(model, params, ids, ids != 0).last_hidden_state

  chex.assert_trees_all_close(
    states(longer)[:, :7], states(padded)[:, :7], rtol=1e-5, atol=1e-6
  )


def test_padding_reaches_nothing():
  """No gradient flows from real positions to pads beyond the first."""
  model, params = build('model')
  embeds = jax.random.normal(jax.random.key(2), (1, 9, SMALL.embedding_size))
  mask = np.array([[1, 1, 1, 1, 1, 0, 0, 0, 0]])

  def loss(embeds):
    out = model.apply({'params': params}, None, mask, inputs_embeds=embeds)
    return jnp.sum(jnp.square(out.last_hidden_state[:, :5]))

  reach = np.abs(jax.jit(jax.grad(loss))(embeds)).max(axis=(0, 2))
  assert (reach[:6] > 0).all()
  assert (reach[6:] == 0).all()


def test_fully_masked_row_is_finite():
  model, params = build('model')
  for mask in (np.zeros((2, 7), int), np.full((2, 1, 7, 7), -np.inf)):
    out = apply(model, params, IDS, mask, output_attentions=True)
    np.testing.assert_allclose(out.attentions[0], 1 / 7, rtol=1e-6)
    assert np.isfinite(out.last_hidden_state).all()


@pytest.mark.slow
def test_masks_of_every_rank_agree():
  model, params = build('model')
  mask = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
  square = np.broadcast_to(mask[:, None], (2, 7, 7))
  additive = np.where(square, 0.0, -1e30)[:, None]

  def states(m):
    return apply(model, params, IDS, m).last_hidden_state

  expected = states(mask)
  for other in (square, square[:, None], square[:, None] != 0, additive):
    chex.assert_trees_all_close(states(other), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_pad_row_starts_at_zero_and_gets_no_lookup_gradient():
  model, params = build('model')
  ids = np.array([[1, 2, 0, 0]])

  def loss(params):
    return jnp.sum(model.apply({'params': params}, ids).last_hidden_state ** 2)

  path = ('embeddings', 'word_embeddings', 'embedding')
  table, grad = params, jax.jit(jax.grad(loss))(params)
  for name in path:
    table, grad = table[name], grad[name]
  assert not np.any(table[0])
  assert not np.any(grad[0])
  assert np.any(grad[1])


def test_id_outside_the_table_is_not_silent():
  model, params = build('model')
  out = apply(model, params, np.array([[1, SMALL.vocab_size]]))
  assert np.isnan(out.last_hidden_state).any()


def test_initialisation():
  """Plain normal weights, zero biases, unit scales (transformers)."""
  _model, params = build('pretraining', Config(num_hidden_layers=2))
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = path[-1].key
    if name == 'scale':
      assert (leaf == 1).all()
    elif name == 'bias':
      assert (leaf == 0).all()
    else:
      assert abs(float(leaf.std()) - 0.02) < 0.002, path
  layers = params['mobilebert']['encoder']['layers']
  query = layers['attention']['query']['kernel']
  assert query.shape[0] == 2 and not np.allclose(query[0], query[1])


def test_bfloat16_computes_in_bfloat16():
  """Activations are bfloat16; logits, softmax and parameters are float32."""
  model, params = build('masked_lm', dtype='bfloat16')
  out = apply(
    model, params, IDS, output_hidden_states=True, output_attentions=True
  )
  assert out.logits.dtype == jnp.float32
  assert out.hidden_states[1].dtype == jnp.bfloat16
  assert out.attentions[0].dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  exact, _ = build('masked_lm')
  expected = apply(exact, params, IDS).logits
  np.testing.assert_allclose(out.logits, expected, atol=0.02)
  text = jax.jit(lambda p: model.apply({'params': p}, IDS).logits)
  for line in text.lower(params).as_text().splitlines():
    if 'dot_general' in line:
      operands = line.split(': (')[1].split(')')[0]
      assert 'f32' not in operands.replace('bf16', ''), line


@pytest.mark.slow
def test_large_hidden_values_stay_finite():
  """The published checkpoint's reach 2.5e7, where float16 overflows."""
  for dtype in ('float32', 'bfloat16'):
    model, params = build('classification', dtype=dtype)
    params = jax.tree.map(lambda x: x, params)  # `build` shares its own
    layers = params['mobilebert']['encoder']['layers']
    layers['output_bottleneck']['norm']['scale'] *= 4e3
    out = apply(model, params, IDS, output_hidden_states=True)
    assert 1e6 < np.abs(out.hidden_states[-1].astype(np.float32)).max() < 1e9
    assert np.isfinite(out.logits).all()


@pytest.mark.parametrize(
  'call,message',
  [
    (lambda m: m(), 'exactly one'),
    (lambda m: m(IDS, inputs_embeds=np.ones((2, 7, 12))), 'exactly one'),
    (lambda m: m(np.ones((1, 17), int)), 'max_position_embeddings is 16'),
    (lambda m: m(inputs_embeds=np.ones((1, 7, 5))), 'embedding_size'),
    (lambda m: m(IDS, np.ones(7)), 'attention_mask has 1 axes'),
    (lambda m: m(IDS, head_mask=np.ones(3)), 'head_mask has shape'),
  ],
)
def test_wrong_inputs(call, message):
  model, params = build('model')
  with pytest.raises(mb.InputError, match=message):
    call(lambda *a, **k: model.apply({'params': params}, *a, **k))


def test_question_answering_needs_two_labels():
  model = mb.MobileBertForQuestionAnswering(SMALL.replace(num_labels=3))
  with pytest.raises(mb.InputError, match='must be 2'):
    mb.init_params(model, jax.random.key(0))


@pytest.mark.slow
def test_multiple_choice_needs_three_axes():
  model, params = build('multiple_choice')
  with pytest.raises(mb.InputError, match='choices'):
    model.apply({'params': params}, IDS)


@pytest.mark.parametrize(
  'field,value,message',
  [
    ('dtype', 'float16', '2.5e7'),
    ('dtype', jnp.float16, '2.5e7'),
    ('param_dtype', 'float16', '65504'),
    ('dtype', 'int8', 'one of'),
    ('dtype', 'float64', 'jax_enable_x64'),
    ('layers', 'while', 'scan'),
    ('remat', 'everything', 'dots'),
  ],
)
def test_wrong_compute(field, value, message):
  with pytest.raises(mb.InputError, match=message):
    mb.Compute(**{field: value})
