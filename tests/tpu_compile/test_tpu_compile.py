"""tpu_compile without libtpu: slices, batches, formulas, rooflines."""

import contextlib
import sys

import jax
import jax.monitoring
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config import overrides
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.task_options import TaggingOptions
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tpu_compile import __main__ as command
from mobilebert_jax.tpu_compile import (
  analytic,
  inputs,
  program,
  report,
  roofline,
  session,
  topology,
)
from mobilebert_jax.tpu_compile import session as tpu_compile_session
from mobilebert_jax.tpu_compile.hlo import counts as hlo_counts
from mobilebert_jax.tpu_compile.hlo.counts import Collective, Counts
from mobilebert_jax.training import evaluate, loop, setup, train_step
from tests.support import custom_data, tiny

CUSTOM = {
  'custom_choice': 'choice',
  'custom_classification': 'classification',
  'custom_qa': 'qa',
  'custom_regression': 'regression',
  'custom_tagging': 'tagging',
}


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v9:2x2', 'must be one of v5e, v6e, v5p, v4'),
    ('v5e', 'a slice of v5e is one of 1x1, 2x2'),
    ('v5e:3x3', 'a slice of v5e is one of 1x1, 2x2'),
    ('v5p:2x2', 'a slice of v5p is one of 2x2x1'),
  ],
)
def test_a_topology_that_is_not_there(name, message):
  with pytest.raises(InputError, match=message):
    topology.parse(name)


def test_slices():
  found = topology.parse('v5p:2x4x4')
  assert (found.size, found.name) == (32, 'v5p:2x4x4')
  assert topology.parse('v4:2x2x1').chip.configuration == 'megacore'
  for chip in topology.CHIPS.values():
    assert chip.usable_gib < chip.hbm_gib + 1
    for shape in chip.slices:
      assert topology.parse(f'{chip.name}:{shape}').name.endswith(shape)


def tiny_config(tmp_path, *more):
  file = tiny.write(tmp_path)
  return overrides.configure(str(file), more)


def examples_of(name, tmp_path, monkeypatch):
  """A config of the task; own tasks need their files for the labels."""
  settings = {'task': name, 'num_steps': 1, 'batch_size': 16}
  if name in CUSTOM:
    monkeypatch.chdir(custom_data.write(CUSTOM[name], tmp_path))
    repo = inputs.__file__.rpartition('/mobilebert_jax/')[0]
    return overrides.configure(f'{repo}/configs/{name}.py:small')
  if name == 'entailment':
    settings['data'] = {'source': 'generated'}
  else:
    settings['data'] = {'source': 'files', 'path': str(tmp_path)}
  if TASKS[name].options is TaggingOptions:
    settings['options'] = {'labels': ('O', 'B-X', 'I-X')}
  return overrides.to_train_config(overrides.config_dict(**settings))


PACKED = ('mnli', 'commonsenseqa', 'conll2003', 'squad_v2', 'masked_lm')


@pytest.mark.parametrize(
  ('name', 'batching'),
  [(name, 'bucketed') for name in TASKS]
  + [(name, 'packed') for name in PACKED],
)
def test_batches_of_every_task(name, batching, tmp_path, monkeypatch):
  """Its columns are those that the loss reads, in the loader's shapes."""
  config = examples_of(name, tmp_path, monkeypatch)
  data = {'batching': batching, 'max_length': 96, 'buckets': ()}
  config = run_config.from_dict(
    (values := run_config.to_dict(config))
    | {'data': values['data'] | data, 'eval_batch_size': 8}
  )
  task = setup.find_task(config)
  mesh = setup.make_mesh(config)
  batch = inputs.batch(config, task, mesh, is_training=True)
  rows, length = batch['input_ids'].shape[0], batch['input_ids'].shape[-1]
  choices = 4 if batching == 'packed' and 'choice_mask' in batch else 1
  choices = 5 if choices == 4 and name == 'commonsenseqa' else choices
  assert length == 96 * choices
  assert rows == config.batch_size or batching == 'packed'
  head = task.head(
    MobileBertConfig(
      hidden_size=8, intra_bottleneck_size=8, embedding_size=8, vocab_size=300,
      num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
      num_feedforward_networks=1, **task.model_overrides(),
    )
  )  # fmt: skip
  params = models.abstract_params(head)
  step = evaluate.make_eval_step(head, task.predict, task.loss)
  with jax.set_mesh(mesh):
    kept, terms = jax.eval_shape(step, params, batch)
  assert kept and all(term.sum.shape == () for term in terms)


@pytest.mark.scale
def test_it_is_the_very_step_that_train_py_runs(tmp_path, monkeypatch):
  """The lowered program is that of the loop, bit for bit."""
  lowered = {}

  def keep(name, make):
    def made(*args):
      step = make(*args)

      def run(first, batch):
        lowered.setdefault(name, step.lower(first, batch).as_text())
        return step(first, batch)

      return run

    return made

  makers = ((train_step, 'make_train_step'), (evaluate, 'make_eval_step'))
  for module, name in makers:
    monkeypatch.setattr(module, name, keep(name, getattr(module, name)))
  config = tiny_config(tmp_path, '--config.accumulation_steps=1')
  loop.train(config, tmp_path / 'run')
  monkeypatch.undo()
  # The vocabulary's size is the tokenizer's there.
  size = len(tiny.WORDS) + len(tiny.SPECIAL)
  config = tiny_config(tmp_path / 'again', f'--config.model.vocab_size={size}')
  plan = program.plan(config)
  assert lowered['make_train_step'] == program.lower_training(plan)[0].as_text()
  evaluation = program.lower_evaluation(plan)[0].as_text()
  assert lowered['make_eval_step'] == evaluation


@contextlib.contextmanager
def compilations():
  """The stages of compilation that JAX goes through meanwhile."""
  found = []

  def listen(event, seconds, **more):
    area, name = event.rsplit('/', 1)
    if area == '/jax/core/compile':
      found.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.scale
def test_a_step_compiles_once_and_gives_a_state_like_its_own(tmp_path):
  """Two steps, one program: what comes out goes in again."""
  size = len(tiny.WORDS) + len(tiny.SPECIAL)
  config = tiny_config(tmp_path, f'--config.model.vocab_size={size}')
  plan = program.plan(config)
  step, tx, state, batch = program.training_step(plan)
  with jax.set_mesh(plan.mesh):
    params = models.init_params(
      plan.task.head(plan.architecture), jax.random.key(0)
    )
    new = train_step.create_state(
      plan.task.head(plan.architecture),
      tx,
      plan.mesh,
      params,
      jax.random.key(1),
    )
    arrays = {
      name: jax.device_put(np.ones(x.shape, x.dtype), x.sharding)
      for name, x in batch.items()
    }
    with compilations() as first:
      new, _ = step(new, arrays)
    with compilations() as later:
      for _ in range(3):
        new, _ = step(new, arrays)
  # Not the entries of jit's cache: jax 0.10 spells the place of a key's bits
  # now P(), now P(None), and has two entries for one program.
  assert first.count('backend_compile_duration') == 1
  assert later == []
  compiled = program.compile_step(plan, 'training')
  assert compiled.is_stable
  assert jax.tree.structure(state) == jax.tree.structure(new)


def test_the_architecture_without_weights_or_network(tmp_path):
  config = overrides.to_train_config(
    overrides.config_dict(
      task='sst2', num_steps=1, init='google/mobilebert-uncased',
      local_files_only=True, model={'hidden_dropout_prob': 0.3},
    )
  )  # fmt: skip
  found = inputs.architecture(config, setup.find_task(config))
  expected = MobileBertConfig.mobilebert(hidden_dropout_prob=0.3)
  assert found.replace(id2label=None, num_labels=2, problem_type=None) == (
    expected
  )
  assert found.num_labels == 2


def test_too_long_a_sequence_is_told_before_compilation():
  config = overrides.to_train_config(
    overrides.config_dict(task='sst2', num_steps=1, data={'max_length': 513})
  )
  with pytest.raises(InputError, match='only 512 positions'):
    inputs.architecture(config, setup.find_task(config))


def test_formula_of_the_published_model():
  """5.39 G multiplications and additions at 128 tokens (paper: 5.7 G)."""
  bare = models.MobileBertForQuestionAnswering
  shape = (bare, 1, 128, 1)
  found = analytic.forward(
    analytic.Workload(MobileBertConfig.mobilebert(), *shape)
  )
  assert found == pytest.approx(5.39e9, rel=0.01)
  teacher = analytic.forward(
    analytic.Workload(MobileBertConfig.ib_bert_large(), *shape)
  )
  assert teacher == pytest.approx(75.7e9, rel=0.01)


def collective(kind='all-reduce', group=4, **more):
  return Collective(kind, 8 * 10**9, ('f32',), group, 1, '', (), **more)


@pytest.mark.parametrize(
  ('name', 'group', 'links'),
  [
    # A line of 2 and one of 4; a ring of 16 in each direction; cubes.
    ('v5e:2x4', 8, 2),
    ('v5e:2x4', 4, 1),
    ('v5e:16x16', 256, 4),
    ('v5e:8x16', 128, 3),
    ('v5p:2x2x1', 4, 2),
    ('v5p:2x4x4', 32, 3),
    ('v5p:4x4x4', 64, 6),
  ],
)
def test_links_of_a_group(name, group, links):
  where = topology.parse(name)
  expected = links * where.chip.link_bandwidth
  assert roofline.bandwidth(where, group) == expected


def test_roofline():
  where = topology.parse('v5e:2x2')
  product = hlo_counts.Product('', ('bf16', 'bf16', 'f32'), 197 * 10**10, 10)
  counts = Counts((product,), 819 * 10**8, (collective(),), (), ())
  found = roofline.estimate(counts, where)
  assert found.compute == pytest.approx(0.1)
  assert found.memory == pytest.approx(0.1)
  # 3/4 of 8 GB, there and back, over two lines of 50 GB/s.
  assert found.waiting == pytest.approx(2 * 0.75 * 8 / 100)
  assert found.step == pytest.approx(0.1 + found.waiting)
  sent = roofline.communication(collective(), where)
  long = collective(is_async=True, flops_beside=10 * product.flops)
  found = roofline.estimate(Counts((product,), 0, (long,), (), ()), where)
  assert found.hidden == pytest.approx(0.1)
  # Communication that outlasts what is beside it is awaited.
  assert found.waiting == pytest.approx(sent - 0.1)
  assert found.step == pytest.approx(0.1 + found.waiting)
  hidden = collective(is_async=True, bytes_beside=10**12)
  found = roofline.estimate(Counts((product,), 0, (hidden,), (), ()), where)
  assert (found.hidden, found.waiting) == (pytest.approx(sent), 0.0)
  assert found.step == max(found.compute, found.hidden)
  one = topology.parse('v5e:1x1')
  assert roofline.communication(collective(group=0), one) == 0.0


def test_a_kernel_comes_on_top_of_the_rest():
  """And the rest is counted without it."""
  where = topology.parse('v5e:2x2')
  product = hlo_counts.Product('', ('bf16', 'bf16', 'f32'), 197 * 10**10, 10)
  bytes_of = {'products': 819 * 10**7, 'copies': 819 * 10**7, 'kernel': 819}
  products = hlo_counts.Operation(
    'p', '', product.flops, bytes_of['products'], 10
  )
  copies = hlo_counts.Operation('c', '', 0, bytes_of['copies'], 5)
  kernel = hlo_counts.Operation(
    'k', '', 197 * 10**9, bytes_of['kernel'], 40, is_kernel=True
  )
  operations = (products, copies, kernel)
  counts = Counts(
    (product,),
    sum(o.times * o.bytes for o in operations),
    (collective(),),
    (),
    (),
    operations,
  )
  found = roofline.estimate(counts, where)
  assert found.compute == pytest.approx(0.1)
  assert found.memory == pytest.approx(0.15)
  assert found.kernel_compute == pytest.approx(0.04)
  assert found.kernel_memory == 0.0
  assert found.step == pytest.approx(0.15 + 0.04 + found.waiting)
  # 0.1 s of either for the products, as they are bound by both; 0.05 s.
  assert found.serial == pytest.approx(0.1 + 0.05 + 0.04 + found.waiting)
  assert found.bound == 'HBM'
  assert roofline.operation_bound(copies, where) == 'HBM'
  hidden = hlo_counts.Operation('s', '', 0, 1, 1, is_beside=True)
  beside = roofline.estimate(Counts((), 1, (), (), (), (hidden, kernel)), where)
  assert beside.serial == pytest.approx(0.04)


def test_candidates_go_from_cheap_to_costly_and_divide_the_batch(tmp_path):
  config = tiny_config(tmp_path, '--config.batch_size=64')
  where = topology.parse('v5e:2x4')
  found = list(tpu_compile_session.memory_saving_settings(config, 2, where))
  settings = [' '.join(s).replace('--config.', '') for s, _ in found]
  whole = 'remat=full mesh.data=1 mesh.fsdp=8 mesh.tensor=1'
  assert settings[:4] == [
    'remat=full',
    'accumulation_steps=2',
    'remat=full accumulation_steps=2',
    'remat=full accumulation_steps=4',
  ]
  assert f'{whole} accumulation_steps=8' in settings
  assert settings[-1] == (
    f'{whole} optimizer.moments_dtype=bfloat16 dtype=bfloat16 '
    'accumulation_steps=8'
  )
  file = str(tmp_path / 'tiny.py')
  for flags, changed in found:
    # The flags mean what was tried.
    assert changed == overrides.configure(
      file, ['--config.batch_size=64', *flags]
    )
    assert changed.batch_size % (changed.accumulation_steps * 8) == 0


@pytest.mark.parametrize(
  ('message', 'gib'),
  [
    (
      'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, '
      'the total memory required for HLO temporaries (788.33G) exceeds '
      'available HBM (15.75G). HLO module: jit_f.\nSee',
      788.33,
    ),
    ('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 31.5G of '
     '15.75G hbm. Exceeded hbm capacity by 15.75G.', 31.5),
    ('RESOURCE_EXHAUSTED: something else', None),
  ],
  ids=['new', 'old', 'unknown'],
)  # fmt: skip
def test_what_the_compiler_says_is_needed(message, gib):
  assert program.DoesNotFitError('training', message).needed_gib == gib


def test_nothing_that_was_tried_fits(tmp_path, monkeypatch):
  """Every candidate is tried, and the sentence says so."""
  tried = []

  def refuse(plan, name):
    tried.append(plan.config)
    raise program.DoesNotFitError(name, 'RESOURCE_EXHAUSTED: more')

  monkeypatch.setattr(program, 'compile_step', refuse)
  config = tiny_config(tmp_path, '--config.batch_size=16')
  where = topology.parse('v5e:2x4')
  monkeypatch.setattr(topology.Slice, 'devices', lambda self: jax.devices())
  told = []
  found = session.run(config, where, told.append)
  assert found['problems'] == [text for text in told if 'does not fit' in text]
  assert len(found['problems']) == 2
  assert 'no setting that was tried makes it fit' in told[0]
  assert len(tried) > 5 and found['steps'] == {} and found['cost'] is None


def test_a_table_names_what_counts():
  row = {
    'kind': 'all-reduce', 'dtypes': ['bf16'], 'chips': 0, 'loops': [4, 24],
    'is_async': True, 'count': 96, 'bytes': 5e9,
  }  # fmt: skip
  kernel = {
    'seconds': 1.0, 'bound': 'compute', 'count': 48, 'flops': 10**12,
    'hbm_traffic_bytes': 10**9,
  }  # fmt: skip
  step = {
    'batch': [8, 16], 'compile_seconds': 3.0, 'flops': 10**12,
    'flops_by_formula': 1e12, 'products': {'bf16 x bf16 -> f32': 10**12},
    'hbm_gib': 1.0, 'hbm_usable_gib': 15.75,
    'hbm_parts_gib': {'state': 1, 'temporary': 1, 'results': 1, 'code': 1},
    'hbm_traffic_bytes': 3e9, 'collectives': [row],
    'kernels': {'forward fused/pallas_call': kernel},
    'operations': [
      {'operation': 'forward fused/pallas_call'} | kernel,
      {
        'operation': 'all-reduce backward add', 'seconds': 0.5,
        'bound': 'interconnect',
      },
    ],
    'seconds': dict.fromkeys(
      ('compute', 'memory', 'waiting', 'hidden', 'kernel_compute',
       'kernel_memory'), 0.5,
    ),
    'serial_seconds': 2.5, 'step_seconds': 2.0, 'bound': 'HBM', 'mfu': 0.25,
    'tokens_per_second': 1e6, 'uncounted': ['cublas'], 'is_stable': False,
  }  # fmt: skip
  text = report.format_step('training', step)
  assert '1.00 TFLOPs' in text or '1.00 T' in text
  assert '96 of bf16, 5.00 GB in all, among all chips, in loops of 4 x 24' in (
    text
  )
  assert 'FLOPs not known' in text and '25.0% MFU' in text
  spent = '48 times, 1 s, bound by compute (1.00 TFLOPs, 1.00 GB)'
  assert f'forward fused/pallas_call: {spent}' in text
  assert 'kernels 1 s' in text and 'one by one          2.5 s' in text
  costliest = report.format_operations(step, 2)
  assert f'40.0%  forward fused/pallas_call: {spent}' in costliest
  assert '20.0%  all-reduce backward add: bound by interconnect' in costliest
  assert 'all-reduce' not in report.format_operations(step, 1)
  assert '--config.num_steps=N' in report.format_cost(None)
  costs = {'steps': 10, 'tokens': 1e6, 'days': 0.5, 'chip_hours': 1234.0}
  assert '0.5 days, 1,234 chip-hours' in report.format_cost(costs)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--topology=v5e:2x2'], 'the flag --config is missing'),
    (['--config=CONFIG'], 'the flag --topology is missing'),
    (['--config=CONFIG', '--topology=v5e:2x3'], 'a slice of v5e is one of'),
    (
      ['--config=CONFIG', '--topology=v5e:2x2', '--json=no/such/file.json'],
      'there is no directory',
    ),
  ],
  ids=['config', 'topology', 'slice', 'json'],
)
def test_wrong_input_is_told_in_one_sentence(flags, message, tmp_path):
  file = str(tiny.write(tmp_path))
  flags = [flag.replace('CONFIG', file) for flag in flags]
  with pytest.raises(InputError, match=message):
    command.main(['tpu_compile', *flags])


def test_the_command_without_libtpu(tmp_path, monkeypatch, capsys):
  """The extra is named; where libtpu is installed, it is hidden."""
  monkeypatch.setattr('sys.argv', ['x', *_wanted(tmp_path)])
  monkeypatch.setitem(sys.modules, 'libtpu', None)
  # Which libtpu sets when it is imported.
  monkeypatch.delenv('TPU_LIBRARY_PATH', raising=False)
  assert exit_status.run(command.main) == 2
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
    'error: libtpu, the compiler for TPUs, is not installed: '
    "pip install 'mobilebert_jax[tpu]'."
  ]


def _wanted(tmp_path):
  return [f'--config={tiny.write(tmp_path)}', '--topology=v5e:2x2']
