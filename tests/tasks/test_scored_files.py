"""Prediction files that exist already, scored as the official scripts do."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mobilebert_jax import score as command
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import scored_files
from tests.support import glue_files, squad_files


def write(path, value):
  path.write_text(value if isinstance(value, str) else json.dumps(value))
  return path


def test_answers_of_squad_1(tmp_path):
  """A question without a prediction counts as wrong, as the script has it."""
  data = write(
    tmp_path / 'dev-v1.1.json', squad_files.document(squad_files.v1())
  )
  given = {'q1': 'the France!', 'q2': 'leader Rollo', 'q3': 'x', 'more': 'y'}
  file = write(tmp_path / 'predictions.json', given)
  for place in (data, tmp_path):
    found = scored_files.score('squad_v1', file, place)
    assert found == {
      'exact_match': 0.25, 'f1': pytest.approx((1 + 2 / 3) / 4), 'total': 4,
      'unanswered': 1,
    }  # fmt: skip


def test_answers_of_squad_2(tmp_path):
  """By hand: 5 questions, one of them without an answer."""
  data = write(
    tmp_path / 'dev-v2.0.json',
    squad_files.document(squad_files.v2(), version='v2.0'),
  )
  given = {'q1': 'France', 'q2': '', 'q3': 'x', 'q4': 'x', 'q5': ''}
  file = write(tmp_path / 'predictions.json', given)
  found = scored_files.score('squad_v2', file, data)
  assert found == {
    'exact': 0.4, 'f1': 0.4, 'HasAns_exact': 0.25, 'HasAns_f1': 0.25,
    'NoAns_exact': 1.0, 'NoAns_f1': 1.0, 'total': 5,
  }  # fmt: skip
  odds = {'q1': 3.0, 'q2': 1.0, 'q3': 0, 'q4': 0, 'q5': 0}
  odds = write(tmp_path / 'odds.json', odds)
  found = scored_files.score(
    'squad_v2', file, data, null_odds=odds, threshold=2.0
  )
  # q1 is taken for unanswerable now; the best threshold lets it stand.
  assert found['exact'] == 0.2 and found['best_exact'] == 0.4
  # Without a threshold nothing is.
  assert scored_files.score('squad_v2', file, data, null_odds=odds)[
    'exact'
  ] == 0.4  # fmt: skip


_COLUMNS = """-DOCSTART- O O

Anna B-PER B-PER
Lee I-PER I-PER
lives O O
in O B-LOC
New B-LOC B-LOC
York I-LOC I-LOC

Ada B-PER O
"""


def test_tags_in_one_file_or_two(tmp_path):
  """As conlleval: 2 of 3 predicted and 2 of 3 gold entities are right."""
  file = write(tmp_path / 'predicted.conll', _COLUMNS)
  found = scored_files.score('conll2003', file, None)
  third = pytest.approx(2 / 3)
  assert {k: found[k] for k in ('precision', 'recall', 'f1')} == {
    'precision': third, 'recall': third, 'f1': third,
  }  # fmt: skip
  assert found['words'] == 7 and found['entities'] == 3
  assert found['accuracy'] == pytest.approx(5 / 7)
  assert found['types']['LOC'] == {
    'precision': 0.5, 'recall': 1.0, 'f1': third, 'entities': 1
  }  # fmt: skip
  gold = write(
    tmp_path / 'gold.conll',
    '\n'.join(line.rpartition(' ')[0] for line in _COLUMNS.splitlines()),
  )
  guess = write(
    tmp_path / 'guess.txt',
    '\n'.join(
      f'{line.split()[0]}\t{line.split()[2]}' if line.strip() else ''
      for line in _COLUMNS.splitlines()[2:]
    ),
  )
  assert scored_files.score('wnut17', guess, gold) == found


def test_labels_of_glue(tmp_path):
  sample = glue_files.SAMPLES['mrpc']
  folder = tmp_path / sample.folder
  folder.mkdir()
  for name, text in sample.files.items():
    (folder / name).write_text(text)
  labels = [
    line.split('\t')[0] for line in sample.files['dev.tsv'].splitlines()[1:]
  ]
  guess = ['1'] * len(labels)
  rows = [f'{i}\t{word}' for i, word in enumerate(guess)]
  file = write(
    tmp_path / 'MRPC.tsv', '\n'.join(['index\tprediction', *rows]) + '\n'
  )
  truth, decided = np.array(labels, int), np.array(guess, int)
  for place in (tmp_path, folder, folder / 'dev.tsv'):
    found = scored_files.score('mrpc', file, place)
    assert found['accuracy'] == np.mean(truth == decided)
    assert found['f1'] == pytest.approx(
      sklearn_metrics.f1_score(truth, decided)
    )
    assert found['total'] == len(labels)
  # Names of the classes are as good as the official words.
  text = file.read_text().replace('\t1', '\tequivalent')
  file.write_text(text)
  assert scored_files.score('mrpc', file, folder) == found


@pytest.mark.parametrize(
  ('task', 'content', 'words'),
  [
    ('squad_v1', '[]', 'expected an object with a text'),
    ('squad_v1', '{"q1": 3}', "question 'q1' has 3, not a text"),
    ('squad_v1', '{"other": "x"}', "'q1' and 3 more of the 4"),
    ('squad_v1', '{', 'this is not JSON'),
    ('conll2003', 'word O\n', 'expected a word, its right tag and'),
    ('mrpc', 'index\tprediction\n0\tx\n1\t1\n', ":2: the prediction is 'x'"),
    ('mrpc', 'index\tprediction\n0\t1\n', 'the index 1 is missing'),
    ('mrpc', 'index\tprediction\n0\t1\n0\t1\n', ':3: the index 0 is that'),
    ('mrpc', 'id\tprediction\n0\t1\n', "no column 'index'"),
  ],
)
def test_wrong_files(tmp_path, task, content, words):
  sample = glue_files.SAMPLES['mrpc']
  for name, text in sample.files.items():
    (tmp_path / name).write_text(text)
  write(tmp_path / 'dev-v1.1.json', squad_files.document(squad_files.v1()))
  file = write(tmp_path / 'given', content)
  data = None if task == 'conll2003' else tmp_path
  with pytest.raises(InputError) as error:
    scored_files.score(task, file, data)
  assert words in str(error.value) and str(file) in str(error.value)


def test_other_words_are_not_scored(tmp_path):
  gold = write(tmp_path / 'gold', 'Anna B-PER\nlives O\n')
  guess = write(tmp_path / 'guess', 'Anna B-PER\ndies O\n')
  with pytest.raises(InputError, match=r"guess:2: the word is 'dies', but 'l"):
    scored_files.score('conll2003', guess, gold)
  guess = write(tmp_path / 'guess', 'Anna B-PER\nlives O\n\nAnna O\n')
  with pytest.raises(InputError, match=r'has 2 sentences, but .*gold has 1'):
    scored_files.score('conll2003', guess, gold)


def test_the_command(tmp_path, capsys):
  file = write(tmp_path / 'predicted.conll', _COLUMNS)
  argv = ['score', '--task=conll2003', f'--predictions={file}']
  assert exit_status.run(command.main, argv) == 0
  assert json.loads(capsys.readouterr().out)['entities'] == 3
  for wrong, words in (
    ([*argv, '--threshold=1'], '--threshold is for squad_v2'),
    ([*argv, '--split=dev'], '--split is for the tasks of GLUE'),
    (['score', '--task=rte', f'--predictions={file}'], '--data is missing'),
    (['score', '--task=race', f'--predictions={file}'], "--task is 'race'"),
  ):
    assert exit_status.run(command.main, wrong) == 2
    assert words in capsys.readouterr().err
  assert command._TASKS == scored_files.TASKS
