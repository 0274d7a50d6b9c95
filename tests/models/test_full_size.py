"""Fine-tuning starts from full-size directories that transformers wrote.

The published checkpoint itself cannot be part of the tests. Its sizes can, and
so can its trap: hidden values of 1e7 (transformers issues 8938, 11327, 15050).
"""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.data, pytest.mark.long]

TRAIN_ROWS, BATCH, MAX_LENGTH = 160, 16, 32


@pytest.fixture(scope='module')
def torch_parts():
  """torch and transformers, if they are there."""
  torch = pytest.importorskip('torch')
  return torch, pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def data(shared_data, tmp_path_factory):
  """The first rows of the official files."""
  folder = tmp_path_factory.mktemp('data') / 'SST-2'
  folder.mkdir()
  for name, count in (('train', TRAIN_ROWS), ('dev', 16), ('test', 4)):
    source = shared_data / 'glue' / 'SST-2' / f'{name}.tsv'
    lines = source.read_text().splitlines()[: count + 1]
    (folder / f'{name}.tsv').write_text('\n'.join(lines) + '\n')
  return folder


def write_directory(path, torch_parts, shared_data, hidden_values=None):
  """A full-size classifier, saved by transformers, with the vocabulary.

  With `hidden_values`, the last block's output scale is set so that the
  largest hidden value on real sentences is that large.
  """
  torch, transformers = torch_parts
  torch.manual_seed(0)
  config = transformers.MobileBertConfig(classifier_activation=False)
  model = transformers.MobileBertForSequenceClassification(config).eval()
  vocab = shared_data / 'vocab' / 'vocab.txt'
  (path / 'vocab.txt').write_bytes(vocab.read_bytes())
  if hidden_values:
    norm = model.mobilebert.encoder.layer[-1].output.bottleneck.LayerNorm
    ids = torch.arange(2000, 2000 + BATCH * MAX_LENGTH).reshape(BATCH, -1)
    with torch.no_grad():
      largest = model.mobilebert(ids).last_hidden_state.abs().max()
      norm.weight *= hidden_values / largest
      largest = model.mobilebert(ids).last_hidden_state.abs().max()
    assert 0.5 * hidden_values < largest < 2 * hidden_values
  model.save_pretrained(path)
  return model


def run(init, data, workdir, *overrides):
  """Runs train.py's main; returns the lines of metrics.jsonl."""
  import train

  train.main(
    [
      'train.py',
      '--config=configs/glue_sst2.py',
      f'--workdir={workdir}',
      f'--config.init={init}',
      '--config.data.source=files',
      f'--config.data.path={data}',
      f'--config.data.max_length={MAX_LENGTH}',
      f'--config.data.buckets=({MAX_LENGTH},)',
      f'--config.batch_size={BATCH}',
      '--config.log_every=1',
      '--config.num_epochs=none',
      *overrides,
    ]
  )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(autouse=True)
def in_checkout(repo, monkeypatch):
  monkeypatch.chdir(repo)
  monkeypatch.syspath_prepend(str(repo))


def test_first_loss_is_pytorchs(torch_parts, shared_data, data, tmp_path):
  from mobilebert_jax import MobileBertTokenizerFast
  from mobilebert_jax.config.run import DataConfig
  from mobilebert_jax.data.batching import loader
  from mobilebert_jax.tasks import TASKS

  torch, _ = torch_parts
  init = tmp_path / 'init'
  init.mkdir()
  model = write_directory(init, torch_parts, shared_data)
  rows = run(
    init,
    data,
    tmp_path / 'run',
    '--config.num_steps=1',
    '--config.model.attention_probs_dropout_prob=0.0',
  )
  loss = next(row['loss'] for row in rows if row.get('step') == 1)

  task = TASKS['sst2'].make_task({}, DataConfig())
  settings = DataConfig(source='files', path=str(data), max_length=MAX_LENGTH)
  features = task.encode(
    task.load(settings, 'train'),
    MobileBertTokenizerFast.from_pretrained(init),
    MAX_LENGTH,
  )
  batch = next(
    loader.train_iterator(
      features,
      batch_size=BATCH,
      num_steps=1,
      seed=0,
      buckets=(MAX_LENGTH,),
    )
  )
  names = ('input_ids', 'attention_mask', 'token_type_ids', 'labels')
  with torch.no_grad():
    expected = model(
      **{name: torch.from_numpy(batch[name]).long() for name in names}
    ).loss
  assert loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_hidden_values_of_1e7(torch_parts, shared_data, data, tmp_path, dtype):
  init = tmp_path / 'init'
  init.mkdir()
  write_directory(init, torch_parts, shared_data, hidden_values=1e7)
  rows = run(
    init,
    data,
    tmp_path / 'run',
    '--config.num_steps=50',
    f'--config.dtype={dtype}',
  )
  values = np.array([row['loss'] for row in rows if 'loss' in row])
  assert len(values) >= 50 and np.isfinite(values).all()
  assert values[:5].mean() > 100, 'the raw first token gives huge logits'
  assert values[-10:].mean() < values[:10].mean()
