"""Each of the user's own kinds of data through train.py and eval.py."""

import csv
import json

import pytest

from mobilebert_jax.convert.pretrained import from_pretrained
from mobilebert_jax.pipelines import pipeline
from tests.support import custom_data, custom_runs

# Whole runs.
pytestmark = pytest.mark.slow

LABELS = {
  'classification': ['neg', 'none', 'pos'],
  'multi': ['one', 'two'],
  'tagging': ['O', 'B-PER', 'I-PER'],
}
OPTIONS = {
  'classification': {'id_column': 'id'},
  'multi': {'multi_label': True},
  'regression': {'label_column': 'score'},
  'tagging': {},
  'qa': {'max_query_length': 8, 'doc_stride': 8},
  'choice': {},
}
PRIMARY = {
  'classification': 'accuracy',
  'multi': 'micro_f1',
  'regression': 'pearson',
  'tagging': 'f1',
  'qa': 'f1',
  'choice': 'accuracy',
}


# The others differ from these in parts that have quicker tests of their own.
USUAL = ('classification', 'tagging', 'qa')
KINDS = [
  pytest.param(kind, marks=() if kind in USUAL else pytest.mark.long)
  for kind in OPTIONS
]


@pytest.mark.parametrize('kind', KINDS)
def test_the_whole_run(tmp_path, capsys, kind):
  root = custom_data.write(kind, tmp_path)
  config = 'classification' if kind == 'multi' else kind
  options = {f'options.{k}': v for k, v in OPTIONS[kind].items()}
  flags = custom_runs.flags(
    f'custom_{config}.py', root, num_steps=40, eval_every=40,
    **{'data.max_length': 24, 'options.validation_fraction': 0.25, **options},
  )  # fmt: skip
  run = tmp_path / 'run'
  assert custom_runs.command('train', *flags, f'--workdir={run}') == 0
  results = json.loads((run / 'results.json').read_text())
  assert results['primary_metric'] == f'validation/{PRIMARY[kind]}'
  final = results['final'][results['primary_metric']]
  assert final > max(0.7, results['first'][results['primary_metric']])
  capsys.readouterr()
  # The exported directory gives the same scores as the last checkpoint.
  assert custom_runs.command('eval', *flags, f'--checkpoint={run}/model') == 0
  again = json.loads(capsys.readouterr().out)
  for name, value in again.items():
    assert value == results['best'][name], name
  check_export(kind, run)
  check_predictions(kind, run / 'predictions')


def check_export(kind, run):
  """The model's directory tells its labels by itself."""
  config = json.loads((run / 'model' / 'config.json').read_text())
  if kind in LABELS:
    named = dict(enumerate(LABELS[kind]))
    assert config['id2label'] == {str(i): name for i, name in named.items()}
    assert config['label2id'] == {name: i for i, name in named.items()}
  if kind == 'classification':
    answer = pipeline('text-classification', str(run / 'model'))(
      'the plot is dull'
    )
    assert answer[0]['label'] == 'neg'
  elif kind == 'tagging':
    tag = pipeline('ner', str(run / 'model'))
    (found,) = tag('dora likes the song', aggregation_strategy='simple')
    assert (found['entity_group'], found['word']) == ('PER', 'dora')
  elif kind == 'qa':
    answer = pipeline('question-answering', str(run / 'model'))(
      question='who likes what ?', context='the film . ben likes the film .'
    )
    assert answer['answer'] == 'ben'
  else:
    model, _ = from_pretrained(_head_of(kind), run / 'model')
    assert model.config.problem_type == {
      'multi': 'multi_label_classification', 'regression': 'regression',
      'choice': None,
    }[kind]  # fmt: skip


def _head_of(kind):
  from mobilebert_jax import models

  return (
    models.MobileBertForMultipleChoice
    if kind == 'choice'
    else models.MobileBertForSequenceClassification
  )


def check_predictions(kind, directory):
  """Every row of the validation part and of the test file is there."""
  counts = {'validation': 16, 'test': 6}
  if kind == 'qa':
    for split, name in (('validation', ''), ('test', 'test_')):
      text = (directory / f'{name}predictions.json').read_text()
      assert len(json.loads(text)) == counts[split]
    return
  suffix = 'jsonl' if kind in ('multi', 'tagging') else 'csv'
  for split, count in counts.items():
    with (directory / f'{split}.{suffix}').open(newline='') as file:
      if suffix == 'jsonl':
        rows = [json.loads(line) for line in file]
      else:
        rows = list(csv.DictReader(file))
    assert len({row['id'] for row in rows}) == len(rows) == count
    for row in rows:
      check_row(kind, row)
  if kind == 'classification':
    assert [row['id'] for row in rows] == [f'r{i}' for i in range(64, 70)]


def check_row(kind, row):
  match kind:
    case 'multi':
      chances = row['probability']
      assert list(chances) == LABELS[kind]
      assert row['prediction'] == [n for n, p in chances.items() if p > 0.5]
    case 'tagging':
      assert len(row['tokens']) == len(row['prediction']) == 4
    case 'regression':
      assert -1 < float(row['prediction']) < 3
    case 'classification':
      assert row['prediction'] in LABELS[kind]
      assert 1 / 3 <= float(row['probability']) <= 1
    case 'choice':
      assert row['prediction'] in ('0', '1', '2')
      assert 1 / 3 <= float(row['probability']) <= 1
