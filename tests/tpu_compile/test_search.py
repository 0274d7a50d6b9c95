"""The search for the fastest settings, on made-up compilations."""

import dataclasses
import types

import jax
import pytest

from mobilebert_jax.runtime import target
from mobilebert_jax.tpu_compile import program, report, search, topology
from tests.support import tiny

GIB = 2**30


@pytest.fixture
def where(monkeypatch):
  """A slice whose devices are the CPU's, but have the TPU's kernel."""
  monkeypatch.setattr(target, 'platform', lambda: 'tpu')
  monkeypatch.setattr(
    topology.Slice, 'devices', lambda self: jax.devices()[: self.size]
  )
  return topology.parse('v5e:2x2')


def config(tmp_path, *settings):
  from mobilebert_jax.config import overrides

  return overrides.configure(
    str(tiny.write(tmp_path)), ['--config.batch_size=32', *settings]
  )


class Compiler:
  """Knows the seconds and GiB of each combination; counts what it compiles."""

  def __init__(self, monkeypatch, seconds, gib):
    self.seconds, self.gib, self.compiled = seconds, gib, []
    monkeypatch.setattr(program, 'compile_step', self)
    monkeypatch.setattr(report, 'measure', self.measure)

  def __call__(self, of, name):
    # 'auto' takes no kernel for rows as short as these.
    attention = 'fused' if of.config.attention == 'fused' else 'xla'
    key = (attention, of.config.remat, of.config.accumulation_steps)
    self.compiled.append(key)
    gib = self.gib(*key)
    if isinstance(gib, Exception):
      raise gib
    memory = program.Memory(0, 0, int(gib * GIB), 0)
    return types.SimpleNamespace(name=name, memory=memory, key=key)

  def measure(self, step, of, where):
    seconds = self.seconds(*step.key)
    parts = dict.fromkeys(
      ('compute', 'memory', 'waiting', 'kernel_compute', 'kernel_memory'),
      seconds / 2,
    )
    return {
      'step_seconds': seconds, 'seconds': parts, 'tokens': 100,
      'hbm_gib': step.memory.total / GIB, 'bound': 'HBM', 'mfu': 0.5,
    }  # fmt: skip


def run(compiler, of, where, monkeypatch):
  monkeypatch.setattr(report, 'format_step', lambda name, step: f'<{name}>')
  lines, saved = [], []
  result = search.run(of, where, lines.append, saved.append)
  assert saved[-1] == result
  return result, '\n'.join(lines)


def outcomes(result):
  return {
    (row['attention'], row['remat'], row['accumulation_steps']): (
      row['outcome'],
      row['why'],
    )
    for row in result['rows']
  }


def test_the_fastest_that_fits_is_named(tmp_path, where, monkeypatch):
  """Every combination is a row; one that is slower with more parts ends it."""
  cost = {'none': 4, 'attention': 2, 'dots': 3, 'narrow': 2.75, 'full': 2.5}
  compiler = Compiler(
    monkeypatch,
    lambda attention, remat, parts: (
      cost[remat] * (1 + 0.1 * parts) + (attention == 'fused')
    ),
    lambda _, remat, parts: 20 / parts if remat == 'attention' else 1.0,
  )
  result, text = run(compiler, config(tmp_path), where, monkeypatch)
  found = outcomes(result)
  assert len(found) == len(result['rows']) == (5 + 4) * 4
  # As configured first: no micro-batches, nothing recomputed.
  assert compiler.compiled[0] == ('xla', 'none', 1)
  assert found['xla', 'attention', 1] == ('does not fit', '')
  assert found['xla', 'attention', 2] == ('fits', '')
  assert found['xla', 'attention', 8] == (
    'skipped', 'accumulation_steps=4 is slower than fewer',
  )  # fmt: skip
  assert found['xla', 'full', 4][0] == 'skipped'
  assert ('xla', 'full', 4) not in compiler.compiled
  assert result['fastest'] == [
    '--config.attention=xla', '--config.remat=attention',
    '--config.accumulation_steps=2',
  ]  # fmt: skip
  assert result['problems'] == []
  assert (
    'fastest that fits: --config.attention=xla --config.remat=attention '
    '--config.accumulation_steps=2, 2400 ms (1.83 times as fast as configured)'
  ) in text
  assert '<training>' in text and '<evaluation>' not in text
  table = text.partition('GiB usable on each chip\n')[2].splitlines()
  assert table[1].split()[:6] == [
    'xla', 'attention', '2', '4', '10.00', '2400',
  ]  # fmt: skip
  assert table[1].endswith('50.0%  fits')
  assert 'does not fit' in text and 'compiling' in text


def test_a_refusal_is_a_row_and_not_the_end(tmp_path, where, monkeypatch):
  def gib(attention, remat, parts):
    if remat == 'full':
      return jax.errors.JaxRuntimeError('INTERNAL: the compiler\nfell over')
    return program.DoesNotFitError('training', f'Used {64 / parts}G of 15.75G')

  compiler = Compiler(monkeypatch, lambda *_: 1.0, gib)
  result, text = run(compiler, config(tmp_path), where, monkeypatch)
  found = outcomes(result)
  assert found['xla', 'full', 1] == (
    'failed',
    'INTERNAL: the compiler fell over',
  )
  assert found['xla', 'none', 1] == ('does not fit', '')
  # 64 GiB in one part, so about 32 in two and 16 in four: not compiled.
  assert found['xla', 'none', 2] == ('skipped', 'needs about 32.0 GiB')
  assert found['xla', 'none', 8][0] == 'does not fit'
  assert result['fastest'] is None
  assert result['problems'] == ['nothing that was tried fits v5e:2x2.']
  assert 'fastest' not in text


def test_what_cannot_win_by_formula_is_not_compiled(tmp_path, where):
  of = config(tmp_path)
  given, other = [
    c
    for c in search.find_candidates(of, where, where.devices())
    if c.parts == 1
    and c.attention == 'xla'
    and c.config.remat in ('none', 'full')
  ]
  assert given.settings == () and other.settings == (
    '--config.attention=xla', '--config.remat=full',
  )  # fmt: skip
  assert other.compute > given.compute
  assert given.memory_gib > other.memory_gib
  huge = dataclasses.replace(other, memory_gib=16.0)
  assert search.reason_to_skip(huge, [], where) == 'needs 16.0 GiB or more'
  best = search.Row(given, 'fits', seconds=other.compute / 2, memory_gib=1.0)
  why = search.reason_to_skip(other, [best], where)
  assert why is not None and why.startswith('computes for ')
  slow = dataclasses.replace(best, seconds=10 * other.compute)
  assert search.reason_to_skip(other, [slow], where) is None
  # What was asked for is compiled in any case.
  asked = dataclasses.replace(huge, settings=())
  assert search.reason_to_skip(asked, [best], where) is None


def test_candidates_divide_the_batch_and_mean_their_flags(tmp_path, where):
  from mobilebert_jax.config import overrides

  file = str(tiny.write(tmp_path))
  base = ['--config.batch_size=48', '--config.accumulation_steps=3']
  of = overrides.configure(file, base)
  found = list(search.find_candidates(of, where, where.devices()))
  assert found[0].config == of
  assert {c.parts for c in found} == {1, 2, 3, 4}
  for one in found:
    assert one.config == overrides.configure(file, [*base, *one.settings])
    assert one.sequences * one.parts * where.size == 48
  order = [c.compute for c in found[1:]]
  assert order == sorted(order)
