"""The runs of benchmarks/fewer_blocks.py, and the rows that judge them."""

import importlib

import pytest

from mobilebert_jax.config import configure
from tests.support import tiny


@pytest.fixture(scope='module')
def script(repo):
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(repo / 'benchmarks'))
    yield importlib.import_module('fewer_blocks')


def test_no_row_that_judges_is_trained_on(script, tmp_path, monkeypatch):
  monkeypatch.setattr(script.hold_out, 'ROWS', 15)
  source = tiny.write_data(tmp_path)
  script.hold_out.split(source, tmp_path / 'new')
  new = tmp_path / 'new'
  before, train, dev = (
    path.read_text().splitlines()
    for path in (source / 'train.tsv', new / 'train.tsv', new / 'dev.tsv')
  )
  assert train[0] == dev[0] == before[0]
  assert len(train) == 1 + 40 - 15 and len(dev) == 1 + 15 + 10
  assert sorted(train[1:] + dev[1:16]) == sorted(before[1:])
  assert dev[16:] == (source / 'dev.tsv').read_text().splitlines()[1:]


@pytest.mark.parametrize(('task', 'depth'), [('sst2', 8), ('entailment', 4)])
def test_an_arm_is_a_run_that_begins_with_blocks_of_the_whole(
  task, depth, script, repo, tmp_path, monkeypatch
):
  monkeypatch.chdir(repo)
  whole = configure(*script.TASKS[task])
  assert script.config_of('all', whole, tmp_path) is whole
  taken, teachers = {}, {}
  for name in script.ARMS:
    if name != 'all':
      config = script.config_of(name, whole, tmp_path)
      assert config.init == str(tmp_path / 'all' / 'model')
      taken[name] = config.init_layers
      teachers[name] = config.distillation.teacher
  assert taken == {
    'again': depth, 'half': depth // 2, 'half-labels': depth // 2,
    'half-taught': depth // 2, 'quarter': depth // 4,
    'quarter-labels': depth // 4, 'quarter-taught': depth // 4,
  }  # fmt: skip
  taught = {name for name, teacher in teachers.items() if teacher is not None}
  assert taught == {
    'half-labels', 'half-taught', 'quarter-labels', 'quarter-taught'
  }  # fmt: skip
