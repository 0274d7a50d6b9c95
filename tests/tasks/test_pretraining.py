"""The task of pre-training: losses, scores, whole runs, resuming."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from mobilebert_jax import losses as losses_task
from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.convert.pretrained import from_pretrained
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.models import (
  MobileBertForMaskedLM,
  MobileBertForPreTraining,
  MobileBertForSequenceClassification,
  packing,
)
from mobilebert_jax.models.outputs import MobileBertForPreTrainingOutput
from mobilebert_jax.pretraining_data import writing
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.pretraining import task as pretraining_task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import setup, train_step
from tests.support import custom_runs, packed

NAMES = ('anna', 'ben', 'carl', 'dora')
THINGS = ('dog', 'cat', 'house', 'tree', 'book')
WORDS = (*NAMES, *THINGS, 'sees', 'the', '.', '##s', 'always')


def text(lines, seed):
  """Sentences about one person, half of whose words can be known for sure."""
  rng = np.random.default_rng(seed)
  name = NAMES[seed % len(NAMES)]
  return '\n'.join(
    f'{name} always sees the {rng.choice(THINGS)}'
    + ('s .' if rng.random() < 0.5 else ' .')
    for _ in range(lines)
  )


def make(**options):
  data = DataConfig(source='files', path='x')
  return TASKS['pretraining'].make_task({'sentences': 'lines', **options}, data)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A vocabulary and forty short documents."""
  root = tmp_path_factory.mktemp('text')
  custom_runs.write_vocab(root, WORDS)
  data = root / 'data'
  data.mkdir()
  rows = [json.dumps({'text': text(8, seed)}) for seed in range(40)]
  (data / 'a.jsonl').write_text('\n'.join(rows) + '\n')
  return root


@pytest.fixture(scope='module')
def tokenizer(world):
  return MobileBertTokenizerFast(world / 'vocab.txt')


def log_softmax(x):
  x = np.asarray(x, np.float64)
  return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_loss_and_scores_are_those_of_a_plain_count():
  rng = np.random.default_rng(0)
  words = rng.normal(0, 2, (4, 3, 11)).astype(np.float32)
  pairs = rng.normal(0, 2, (4, 2)).astype(np.float32)
  positions = np.array([[1, 4, 0], [2, 0, 0], [1, 2, 5], [0, 0, 0]])
  labels = np.array([[5, 0, -100], [7, -100, -100], [1, 9, 4], [-100] * 3])
  is_random = np.array([0, 1, 1, 0])
  batch = {
    'input_ids': np.zeros((4, 6), np.int32), 'labels': labels,
    'masked_positions': positions, 'next_sentence_label': is_random,
    'weights': np.array([1, 1, 1, 0], np.float32),
  }  # fmt: skip
  batch = jax.tree.map(jnp.asarray, batch)
  outputs = MobileBertForPreTrainingOutput(jnp.array(words), jnp.array(pairs))
  of_words, of_pairs = log_softmax(words), log_softmax(pairs)
  places = np.argwhere(labels != -100)
  nll = [-of_words[i, j, labels[i, j]] for i, j in places]
  expected = np.mean(nll) - np.mean(of_pairs[range(3), is_random[:3]])
  loss = losses_task.total(pretraining_task.loss(outputs, batch))
  assert float(loss) == pytest.approx(expected, rel=1e-6)

  kept = jax.device_get(jax.jit(pretraining_task.predict)(outputs, batch))
  assert {name: value.shape for name, value in kept.items()} == {
    'counts': (4, 6), 'target': (4, 6), 'guess': (4, 6), 'nll': (4, 6),
    'next_sentence_logits': (4, 2), 'next_sentence_label': (4,),
  }  # fmt: skip
  assert np.argwhere(kept['counts']).tolist() == [
    [i, positions[i, j]] for i, j in places
  ]
  scores = pretraining_task.score(kept, (), None)
  right = [words[i, j].argmax() == labels[i, j] for i, j in places]
  assert scores == {
    'accuracy': np.mean(right),
    'perplexity': pytest.approx(np.exp(np.mean(nll)), rel=1e-6),
    'next_sentence_accuracy': np.mean(pairs.argmax(-1) == is_random),
  }


@pytest.mark.slow
@pytest.mark.parametrize('batching', ['padded', 'packed'])
def test_a_loss_does_not_depend_on_the_way_of_batching(tokenizer, batching):
  task = make()
  documents = [Document(str(i), text(5, i)) for i in range(6)]
  features = task.encode(documents, tokenizer, packed.MAX_LENGTH)
  model = packed.make_model('pretraining')
  params = packed.make_params(model)

  @jax.jit
  def of(batch):
    outputs = model.apply({'params': params}, **train_step.model_inputs(batch))
    return losses_task.total(task.loss(outputs, packing.per_example(batch)))

  plain = dataclasses.replace(features, gather=None)
  expected = of(packed.batch_of(plain, 'padded')[0])
  found = of(packed.batch_of(features, batching)[0])
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def flags(world, *more, **settings):
  return custom_runs.flags(
    'pretrain_student.py:small', world, *more,
    **{
      'options.sentences': 'lines', 'options.validation_fraction': 0.3,
      'num_steps': 30, 'eval_every': 15, 'checkpoint_every': 10,
      'keep_checkpoints': 9, 'log_every': 7, 'batch_size': 16,
      'optimizer.name': 'adamw', 'optimizer.learning_rate': 3e-2, **settings,
    },
  )  # fmt: skip


@pytest.fixture(scope='module')
def finished(world, tmp_path_factory):
  """A run that learns from the text."""
  run = tmp_path_factory.mktemp('run') / 'run'
  assert custom_runs.command('train', *flags(world), f'--workdir={run}') == 0
  return run


@pytest.mark.slow
def test_a_run_learns_both(finished):
  results = json.loads((finished / 'results.json').read_text())
  first, final = results['first'], results['final']
  assert final['validation/accuracy'] > 0.5 > first['validation/accuracy']
  assert final['validation/perplexity'] < first['validation/perplexity'] / 2
  rows = (finished / 'predictions/validation.jsonl').read_text().splitlines()
  records = [json.loads(row) for row in rows]
  assert set(records[0]) == {
    'sequence', 'masked', 'accuracy', 'nll', 'is_random', 'random_logit'
  }  # fmt: skip
  right = [(r['random_logit'] > 0) == r['is_random'] for r in records]
  expected = results['best']['validation/next_sentence_accuracy']
  assert np.mean(right) == pytest.approx(expected)


@pytest.mark.slow
def test_what_was_learnt_begins_another_model(finished):
  model, params = from_pretrained(MobileBertForPreTraining, finished / 'model')
  assert model.config.normalization_type == 'layer_norm'
  assert set(params) == {'mobilebert', 'predictions', 'seq_relationship'}
  for head in (MobileBertForMaskedLM, MobileBertForSequenceClassification):
    _, other = from_pretrained(head, finished / 'model', key=jax.random.key(0))
    np.testing.assert_array_equal(
      other['mobilebert']['embeddings']['position_embeddings']['embedding'],
      params['mobilebert']['embeddings']['position_embeddings']['embedding'],
    )


def same_end(run, again, flags_):
  """Takes a run's last checkpoints away; it must end with the same bits."""
  shutil.copytree(run, again)
  for step in (20, 30):
    shutil.rmtree(again / f'checkpoints/{step}')
  (again / 'results.json').unlink()
  assert custom_runs.command('train', *flags_, f'--workdir={again}') == 0
  states = [load_file(p / 'model/model.safetensors') for p in (run, again)]
  assert states[0].keys() == states[1].keys()
  for name, value in states[0].items():
    np.testing.assert_array_equal(value, states[1][name])
  records = [metrics_log.read(p / 'metrics.jsonl') for p in (run, again)]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  assert records[0] == records[1]


@pytest.mark.slow
def test_a_dynamic_set_is_masked_alike_after_a_break(finished, world, tmp_path):
  same_end(finished, tmp_path / 'again', flags(world))


@pytest.mark.long
@pytest.mark.parametrize('masking', ['static', 'dynamic'])
def test_records_on_disk_are_read_alike_after_a_break(
  world, tokenizer, tmp_path, masking
):
  (tmp_path / 'vocab.txt').write_bytes((world / 'vocab.txt').read_bytes())
  options = PretrainingDataOptions(
    max_length=16, masking=masking, sentences='lines', duplicates=3,
    block_size=2000,
  )  # fmt: skip
  writing.write(options, [world / 'data'], tmp_path / 'data', tokenizer)
  run = tmp_path / 'run'
  given = flags(tmp_path, **{'options.whole_word': masking == 'dynamic'})
  assert custom_runs.command('train', *given, f'--workdir={run}') == 0
  results = json.loads((run / 'results.json').read_text())
  final = results['final']['validation/accuracy']
  assert final > 0.5 > results['first']['validation/accuracy']
  same_end(run, tmp_path / 'again', given)


def test_without_next_sentences_there_is_no_pooler():
  task = make(next_sentence=False)
  assert task.head is MobileBertForMaskedLM and not task.head.has_pooler
  assert make().head is MobileBertForPreTraining
  kept = {
    'counts': np.array([[True, True]]), 'target': np.array([[3, 4]]),
    'guess': np.array([[3, 5]]), 'nll': np.array([[0.0, 0.0]]),
  }  # fmt: skip
  assert task.score(kept, (), None) == {'accuracy': 0.5, 'perplexity': 1.0}


@pytest.mark.parametrize('next_sentence', [True, False])
def test_a_step_is_known_without_data(next_sentence):
  config = TrainConfig(
    task='pretraining', num_steps=1, batch_size=24,
    data=DataConfig(source='files', path='x', max_length=64, batching='padded'),
    options={'next_sentence': next_sentence},
  )  # fmt: skip
  task = setup.find_task(config)
  mesh = device_mesh.make_mesh()
  batch = inputs.batch(config, task, mesh, is_training=True)
  shapes = {name: value.shape for name, value in batch.items()}
  # 15% of the places for words, of which pairs have one less.
  assert shapes['labels'] == shapes['masked_positions'] == (24, 9)
  assert shapes['input_ids'] == (24, 64)
  assert ('next_sentence_label' in shapes) == next_sentence
