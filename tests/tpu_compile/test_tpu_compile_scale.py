"""Programs for real TPU slices, compiled by libtpu (extra 'tpu').

What runs compile is checked on the command's own report; each is compiled once.
"""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys

import jax
import pytest
from jaxlib import _hlo, _jax

from mobilebert_jax.config import overrides
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.tpu_compile import (
  analytic,
  program,
  search,
  session,
  topology,
)
from mobilebert_jax.tpu_compile.hlo import counts
from mobilebert_jax.training import mesh as device_mesh
from tests.support import libtpu, marks, tiny

pytestmark = [pytest.mark.scale, pytest.mark.tpu, libtpu.needed]

# (config, topology, settings). Small batches: the step's own size is compiled,
# once and for all, for docs/explanation/scaling.md.
_SMALL = '--config.batch_size=64 --config.eval_batch_size=64'
RUNS = {
  'fine-tuning': ('glue_mnli.py', 'v5e:2x2', '--config.dtype=bfloat16'),
  'student': ('scaling.py:student', 'v5e:4x4', _SMALL),
  'teacher': (
    'scaling.py:teacher', 'v5e:4x4', f'{_SMALL} --config.remat=full'
  ),
  'student-v5p': ('scaling.py:student', 'v5p:2x2x1', _SMALL),
}  # fmt: skip
# Two minutes of a slow machine for each: other sizes, and another chip.
_LONG = ('teacher', 'student-v5p')


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[pytest.mark.long] if name in _LONG else [])
    for name in RUNS
  ],
)
def test_what_train_py_runs_compiles_for_a_slice(name, tmp_path, repo):
  """Memory, FLOPs, communication and dtypes, as the command reports them."""
  config, where, settings = RUNS[name]
  file = tmp_path / 'report.json'
  # Not the suite's own flags, which change what is compiled.
  clean = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  command = [sys.executable, '-m', 'mobilebert_jax.tpu_compile']
  done = subprocess.run(
    [*command, f'--config=configs/{config}', f'--topology={where}',
     # A kernel's lanes multiply more than the formula has.
     '--config.attention=xla', f'--json={file}', *settings.split()],
    cwd=repo, env=clean, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'at most' in done.stdout
  found = json.loads(file.read_text())
  assert found['problems'] == [] and found['settings'] == []
  if found['num_steps']:
    assert found['cost']['tokens'] == 500_000 * 64 * 512
  for step in found['steps'].values():
    assert 0 < step['hbm_gib'] < step['hbm_usable_gib']
    assert step['uncounted'] == []
    assert 0 < step['mfu'] < 1
  train = found['steps']['training']
  # XLA may compute again what would not fit; never less than is needed.
  assert train['flops'] == pytest.approx(train['flops_by_formula'], rel=0.05)
  assert train['is_stable'], 'the second step would be compiled anew'
  check_only_gradients_are_added_up(train, found['parameters'])
  check_products_multiply_bfloat16(train)


def check_only_gradients_are_added_up(step, parameters):
  """Data parallelism gathers nothing; one gradient's size is all-reduced."""
  assert {c['kind'] for c in step['collectives']} == {'all-reduce'}
  reduced = sum(c['bytes'] for c in step['collectives'])
  # In float32, or in bfloat16 where the products are. The word table's two
  # gradients, of look-up and decoder, may be sent one by one.
  assert 2 * parameters <= 1.01 * reduced
  assert reduced <= 1.01 * 4 * parameters + 16


def check_products_multiply_bfloat16(step):
  """float32 comes in on one side alone: gradients of logits and the like."""
  exact = sum(
    flops
    for kind, flops in step['products'].items()
    if 'bf16' not in kind.partition(' -> ')[0]
  )
  assert exact <= 0.01 * step['flops']


SIZES = {
  'hidden_size': 128, 'intra_bottleneck_size': 64, 'embedding_size': 32,
  'num_attention_heads': 2, 'intermediate_size': 128, 'vocab_size': 512,
  'num_feedforward_networks': 1, 'max_position_embeddings': 128,
  'attention_probs_dropout_prob': 0.0,
}  # fmt: skip


def small(layers, kind, **more) -> TrainConfig:
  """A small student: `layers` blocks, looped ('scan') or unrolled ('loop')."""
  return overrides.to_train_config(
    overrides.config_dict(
      **{
        'task': 'masked_lm', 'model': {**SIZES, 'num_hidden_layers': layers},
        'layers': kind, 'batch_size': 32, 'eval_batch_size': 32,
        'num_steps': 10, 'data': {'max_length': 128}, 'attention': 'xla',
        'attention_dropout': 'random',
      } | more
    )
  )  # fmt: skip


@functools.cache
def where_to(backend):
  if backend == 'cpu':
    return jax.devices()[:4]
  return topology.parse('v5e:2x2').devices()


@functools.cache
def compiled(backend, layers, kind, **more):
  # As a run has it, not as the suite's reference numbers need it.
  with jax.default_matmul_precision('default'):
    config = small(layers, kind, **more)
    plan = program.plan(config, where_to(backend))
    return plan, program.compile_step(plan, 'training')


def written_out(text, trips):
  """A compiled program, each loop replaced by `trips` calls of its body."""

  def calls(loop):
    start, name, shape, state, body = loop.groups()
    lines = []
    for trip in range(trips):
      is_last = trip == trips - 1
      now = name if is_last else f'{name}.trip{trip}'
      begin = start if is_last else '  '
      lines.append(f'{begin}{now} = {shape} call({state}), to_apply={body}')
      state = now
    return '\n'.join(lines)

  return re.sub(
    r'^(  (?:ROOT )?)(%\S+) = (.*) while\((%\S+)\),.* body=(%[^\s,]+).*$',
    calls, text, flags=re.MULTILINE,
  )  # fmt: skip


def bytes_by_xla(text):
  """What XLA's own analysis of a compiled program's text says it moves."""
  module = _hlo.hlo_module_from_text(text)
  client = jax.devices()[0].client
  return _jax.hlo_module_cost_analysis(client, module)['bytes accessed']


# On a CPU, jaxlib 0.10 does not compute everything again that remat says, once
# the blocks are unrolled: then the programs differ by more than the loop.
@pytest.mark.parametrize(
  ('backend', 'layers', 'remat'),
  [
    ('cpu', 2, 'none'),
    ('cpu', 4, 'none'),
    ('tpu', 2, 'none'),
    ('tpu', 2, 'attention'),
    ('tpu', 4, 'full'),
  ],
)
def test_loops_count_as_the_unrolled_program_and_the_formula(
  backend, layers, remat
):
  _, looped = compiled(backend, layers, 'scan', remat=remat)
  _, unrolled = compiled(backend, layers, 'loop', remat=remat)
  trips = [n for _, n in looped.counts.loops]
  assert trips.count(layers) >= 2
  one, other = looped.counts, unrolled.counts
  assert one.flops == pytest.approx(other.flops, rel=0.01)
  assert one.collective_bytes() == pytest.approx(
    other.collective_bytes(), rel=0.01
  )
  # Not their bytes of memory: the unrolled program is fused across blocks and
  # stores other arrays. Like with like is this program, its loops written out.
  assert set(trips) == {layers}
  flat = written_out(looped.compiled.as_text(), layers)
  assert counts.count(flat).loops == other.loops == ()
  assert one.bytes == counts.count(flat).bytes
  if backend == 'cpu':
    # XLA itself counts right where there is no loop.
    assert one.bytes == pytest.approx(bytes_by_xla(flat), rel=0.01)
    xla = unrolled.compiled.cost_analysis()
    assert other.bytes == pytest.approx(xla['bytes accessed'], rel=0.01)
  plan, step = compiled(backend, layers, 'scan', remat=remat)
  # 15% of the 126 places for words, and no logits elsewhere.
  scored = step.batch['masked_positions'].size
  assert scored == 32 * 19
  expected = analytic.training(
    plan.config,
    analytic.Workload(plan.architecture, plan.task.head, 32, 128, 32, scored),
  )
  assert one.flops * 4 == pytest.approx(expected, rel=0.05)


WITHOUT_BOTTLENECK = {
  'use_bottleneck': False, 'hidden_size': 64, 'embedding_size': 64
}  # fmt: skip


# A folded norm leaves a product less to repeat: the formula is exact.
@pytest.mark.parametrize(
  ('remat', 'norms', 'architecture'),
  [
    ('full', 'separate', {}),
    ('full', 'fold', {}),
    ('full', 'fold', WITHOUT_BOTTLENECK),
    ('full', 'fold', {'normalization_type': 'layer_norm'}),
    ('narrow', 'separate', {}),
    ('narrow', 'fold', {}),
    ('narrow', 'fold', WITHOUT_BOTTLENECK),
  ],
)
def test_the_formula_counts_what_is_repeated(remat, norms, architecture):
  architecture = {**SIZES, 'num_hidden_layers': 2, **architecture}
  config = small(2, 'scan', norms=norms, remat=remat, model=architecture)
  with jax.default_matmul_precision('default'):
    plan = program.plan(config, where_to('tpu'))
    step = program.compile_step(plan, 'training')
  scored = step.batch['masked_positions'].size
  work = analytic.Workload(
    plan.architecture, plan.task.head, 32, 128, 32, scored
  )
  assert step.counts.flops * 4 == analytic.training(config, work)


@pytest.mark.parametrize(
  'where', marks.long_but(('v5e:2x2',), ('v5e:2x2', 'v6e:2x2', 'v5p:2x2x1'))
)
def test_a_step_has_the_kernel_and_no_scores(where):
  """'auto' takes it; nothing of [tokens, tokens] is ever in memory.

  On a v5e it does not with so few tokens.
  """
  taken = 'fused' if where.startswith('v5e') else 'auto'
  config = small(
    2, 'scan', attention='auto', attention_dropout='hash', dtype='bfloat16',
    mesh={'tensor': 2},
    data={'max_length': 256},
    model={
      **SIZES, 'num_hidden_layers': 2, 'max_position_embeddings': 256,
      'attention_probs_dropout_prob': 0.1,
    },
  )  # fmt: skip
  devices = topology.parse(where).devices()
  texts = [
    program.compile_step(
      program.plan(dataclasses.replace(config, attention=attention), devices),
      'training',
    ).compiled.as_text()
    for attention in (taken, 'xla')
  ]
  kernels, plain = texts
  assert kernels.count('custom_call_target="tpu_custom_call"') == 2
  assert 'tpu_custom_call' not in plain
  scores = re.compile(r'\[[\d,]*256,256\]')
  assert scores.search(plain) and not scores.search(kernels)


def test_a_float32_run_multiplies_in_bfloat16_unless_told_otherwise():
  """What the report's note says of TPUs."""
  _, step = compiled('tpu', 2, 'scan', remat='none')
  kinds = step.counts.flops_by_dtypes()
  whole = sum(f for (a, b, _), f in kinds.items() if a == b == 'f32')
  assert whole < 0.5 * step.counts.flops
  with jax.default_matmul_precision('highest'):
    plan = program.plan(small(2, 'scan'), where_to('tpu'))
    exact = program.compile_step(plan, 'training').compiled.as_text()
  assert 'operand_precision={highest,highest}' in exact
  assert 'operand_precision={highest' not in step.compiled.as_text()


def test_sharding_constraints_are_in_the_lowered_program():
  """Activations are pinned along the batch, also inside the loop."""
  plan = program.plan(small(2, 'scan'), where_to('tpu'))
  text = program.lower_training(plan)[0].as_text()
  pinned = re.findall(r'sdy\.sharding_constraint [^\n]*', text)
  assert len(pinned) > 4
  assert any('"data", "fsdp"' in line for line in pinned)


def test_v4_has_one_device_for_the_two_cores_of_a_chip():
  where = topology.parse('v4:2x2x1')
  devices = where.devices()
  assert len(devices) == 4
  assert {device.num_cores for device in devices} == {2}


@pytest.mark.parametrize(
  'name', ['v5e:4x4', 'v6e:4x4', 'v5p:2x4x4', 'v4:4x4x4']
)
@pytest.mark.parametrize('sizes', [(2, 1), (4, 1), (2, 2), (8, 1)], ids=str)
def test_meshes_that_share_an_axis_of_the_slice(name, sizes):
  fsdp, tensor = sizes
  devices = topology.parse(name).devices()
  mesh = device_mesh.make_mesh(fsdp=fsdp, tensor=tensor, devices=devices)
  assert dict(mesh.shape)['data'] == len(devices) // (fsdp * tensor)
  assert {*mesh.devices.flat} == {*devices}


@pytest.mark.parametrize(
  'name', ['v5e:2x2', 'v6e:2x2', 'v5p:2x2x1', 'v4:2x2x1']
)
def test_usable_memory_is_what_the_compiler_says(name):
  where = topology.parse(name)
  mesh = jax.make_mesh((4,), ('x',), devices=where.devices())
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  side = jax.ShapeDtypeStruct((230_000,) * 2, 'float32', sharding=place)
  lowered = jax.jit(lambda x: (x @ x) @ x.T).lower(side)
  with pytest.raises(jax.errors.JaxRuntimeError) as error:
    lowered.compile()
  told = re.search(r'available HBM \(([\d.]+)G\)', str(error.value)).group(1)
  # libtpu 0.0.42 allows some a hundredth more than 0.0.50.
  more = round(100 * (float(told) - where.chip.usable_gib))
  assert more in (0, 1)


@pytest.mark.long
def test_what_does_not_fit_and_the_setting_that_makes_it_fit():
  """On a chip that is made small: the setting that is named does fit."""
  where = topology.parse('v5e:2x2')
  plan, plain = compiled('tpu', 2, 'scan', batch_size=128, remat='full')
  less = 0.9 * plain.memory.total / 2**30
  tight = dataclasses.replace(
    where, chip=dataclasses.replace(where.chip, usable_gib=less)
  )
  with pytest.raises(program.DoesNotFitError) as error:
    session.check_memory(plain, tight)
  settings, changed, step = session.search_fitting(
    plan.config, error.value, tight, where_to('tpu')
  )
  assert settings and changed != plan.config
  assert step.memory.total / 2**30 <= less


def test_the_command_says_what_would_make_it_fit(tmp_path, capsys, monkeypatch):
  """Exit status 1, one sentence, and a report with the setting."""
  from mobilebert_jax.tpu_compile import __main__ as command

  compile_step = program.compile_step

  def compile_if_it_fits(plan, name):
    if plan.config.remat == 'none' and name == 'training':
      raise program.DoesNotFitError(name, 'Used 20.0G of 15.75G hbm')
    return compile_step(plan, name)

  monkeypatch.setattr(program, 'compile_step', compile_if_it_fits)
  report = tmp_path / 'report.json'
  flags = ['--topology=v5e:1x1', f'--json={report}']
  monkeypatch.setattr(
    'sys.argv', ['x', f'--config={tiny.write(tmp_path)}', *flags]
  )
  assert exit_status.run(command.main) == 1
  out = capsys.readouterr()
  sentence = (
    'the training step does not fit: it needs 20.0 GiB of the 15.75 GiB of a '
    'v5e chip; it fits with --config.remat=full.'
  )
  assert out.err == f'error: {sentence}\n'
  assert sentence in out.out and 'remat full' in out.out
  found = json.loads(report.read_text())
  assert found['problems'] == [sentence]
  assert found['settings'] == ['--config.remat=full']
  assert set(found['steps']) == {'training', 'evaluation'}


def test_a_search_compiles_the_kernel_and_plain_attention(monkeypatch):
  """Each combination is a row with what it costs; the fastest is named."""
  monkeypatch.setattr(search, 'REMAT_POLICIES', ('full',))
  where = topology.parse('v5e:2x2')
  config = small(
    2, 'scan', batch_size=4, dtype='bfloat16', attention='auto',
    attention_dropout='hash',
  )  # fmt: skip
  lines = []
  with jax.default_matmul_precision('default'):
    result = search.run(config, where, lines.append)
  rows = {(r['attention'], r['remat']): r for r in result['rows']}
  # As configured: 'auto' takes plain operations for so few tokens on a v5e.
  assert set(rows) == {('xla', 'none'), ('xla', 'full'), ('fused', 'full')}
  assert {r['outcome'] for r in rows.values()} == {'fits'}
  for (attention, _), row in rows.items():
    step = row['steps']['training']
    assert step['uncounted'] == []
    assert bool(step['kernels']) == (attention == 'fused')
    # What must be held by formula is no more than what is held.
    assert row['hbm_gib_at_least'] <= row['hbm_gib']
    assert row['step_seconds'] == step['step_seconds']
    if attention == 'xla':
      assert row['compute_seconds_by_formula'] == pytest.approx(
        step['seconds']['compute'], rel=0.05
      )
  kernels = rows['fused', 'full']['steps']['training']['kernels']
  assert {row['count'] for row in kernels.values()} == {2}
  # A head of 32 takes all lanes of its tile: more than the formula's FLOPs.
  assert sum(row['flops'] for row in kernels.values()) > 0
  best = min(rows.values(), key=lambda row: row['step_seconds'])
  assert result['fastest'] == best['settings']
  assert 'fastest that fits' in '\n'.join(lines)


def test_counts_of_a_real_tpu_program_need_no_jax(tmp_path):
  _, step = compiled('tpu', 2, 'scan', remat='none')
  assert counts.count(step.compiled.as_text()).flops == step.counts.flops
