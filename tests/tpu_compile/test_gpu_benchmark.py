"""benchmarks/gpu.py, as far as a CPU can try it; see --toy for all of it."""

import importlib

import jax
import numpy as np
import pytest

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tpu_compile import program


@pytest.fixture(scope='module')
def script(repo):
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(repo / 'benchmarks'))
    yield importlib.import_module('gpu')


def test_the_plan_names_all_parts_and_stays_within_eight_minutes(
  script, capsys
):
  script.main(['--plan'])
  lines = capsys.readouterr().out.splitlines()
  text = '\n'.join(lines)
  for name in ('correctness', 'fine-tuning', 'pre-training', 'profile'):
    assert name in text
  assert lines[-1].endswith('min  in all, estimated')
  ours = sum(float(x.split()[0]) for x in lines[:-1] if ': transf' not in x)
  assert ours <= 8.0
  script.main(['--plan', '--pretrain=5'])
  assert 'pre-training, saving included' in capsys.readouterr().out


def test_without_a_gpu_it_says_so(script):
  with pytest.raises(SystemExit, match='no GPU'):
    script.main([])


@pytest.mark.parametrize('case', ['fine-tuning', 'pre-training'])
def test_a_batch_is_what_the_step_takes(script, case):
  plan = program.plan(script.config_of(case, script.TOY))
  batch = script.batch_of(plan)
  shapes = program.batch(plan, 'training')
  assert {n: (x.shape, x.dtype) for n, x in batch.items()} == {
    n: (x.shape, x.dtype) for n, x in shapes.items()
  }
  assert np.all(np.asarray(batch['input_ids']) < 500)
  if case == 'pre-training':
    places = np.asarray(batch['masked_positions'])
    # Words to predict are different places of a sequence.
    assert np.all(np.diff(places, axis=1) > 0) and places.max() < 32


@pytest.mark.slow
def test_a_step_is_timed_and_a_page_written(script, tmp_path):
  config = script.config_of('fine-tuning', script.TOY)
  measured = script.time_ours(config, 0.05)
  assert measured['tokens'] == 8 * 16
  assert measured['seconds'] > 0 and measured['flops'] > 0
  half = {**measured, 'seconds': 2 * measured['seconds']}
  row = script._row('a', 'b', measured, 1e12, half)
  assert row.endswith('| 2.00 |')
  page = tmp_path / 'page.md'
  page.write_text('x\n<!-- gpu -->\nold\n<!-- end of gpu -->\ny\n')
  script.write_results(row, page)
  assert page.read_text() == (
    f'x\n<!-- gpu -->\n{row}\n<!-- end of gpu -->\ny\n'
  )
  page.write_text('x')
  with pytest.raises(InputError, match='has no'):
    script.write_results(row, page)


def test_peaks(script):
  assert script.peak_of('NVIDIA H200') == 989e12
  assert script.peak_of('NVIDIA A100-SXM4-80GB') == 312e12
  assert script.peak_of(jax.devices()[0].device_kind) is None
