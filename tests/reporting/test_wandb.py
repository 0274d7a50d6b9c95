"""Weights & Biases as one more place for metrics, without any network."""

import json
import sys
import types

import pytest

from mobilebert_jax.config.run import WandbConfig
from mobilebert_jax.reporting import metrics_log, wandb_log
from mobilebert_jax.runtime.errors import InputError


class Client(types.ModuleType):
  """Stands in for the package: notes what it is told."""

  def __init__(self, problem=None):
    super().__init__('wandb')
    self.runs, self.lines, self.problem = [], [], problem

  def init(self, **settings):
    if self.problem:
      raise RuntimeError(self.problem)
    self.runs.append(settings)
    return self

  def log(self, values, step):
    self.lines.append((step, values))

  def finish(self):
    self.lines.append('end')


@pytest.fixture
def client(monkeypatch):
  client = Client()
  monkeypatch.setitem(sys.modules, 'wandb', client)
  return client


def test_it_gets_every_line_and_a_continued_run_goes_on(client, tmp_path):
  settings = WandbConfig(project='p', entity='me')

  def places():
    return [wandb_log.WandbLog(settings, tmp_path, {'seed': 3})]

  for first in (-1, 1):
    with metrics_log.start(tmp_path, first, places) as log:
      log.write(first + 2, {'loss': 0.5})
  begun, continued = client.runs
  assert begun == continued
  assert begun['project'] == 'p' and begun['entity'] == 'me'
  assert begun['name'] == tmp_path.name and begun['resume'] == 'allow'
  assert begun['dir'] == str(tmp_path) and begun['config'] == {'seed': 3}
  assert client.lines == [
    (1, {'loss': 0.5}), 'end', (3, {'loss': 0.5}), 'end'
  ]  # fmt: skip
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [1, 3]


def test_what_keeps_it_from_beginning_is_told(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'wandb', Client('api_key not\nconfigured'))
  with pytest.raises(InputError) as error:
    wandb_log.WandbLog(WandbConfig(project='p'), tmp_path, {})
  assert "config.wandb.project='p'" in str(error.value)
  assert 'api_key not configured' in str(error.value)
  assert 'WANDB_MODE=offline' in str(error.value)


def test_without_a_project_nothing_is_imported(monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  wandb_log.check(WandbConfig())
  with pytest.raises(
    InputError, match=r"pip install 'mobilebert_jax\[wandb\]'"
  ):
    wandb_log.check(WandbConfig(project='p'))
