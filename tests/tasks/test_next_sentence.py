import csv
import json

import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.pretraining import next_sentence
from mobilebert_jax.tasks.pretraining.next_sentence import make_pairs, segments
from tests.support import custom_runs


def documents(count, length):
  """Documents whose sentences tell where they stand."""
  made = [
    Document(f'd{i}', '\n'.join(f's {i} {j}' for j in range(length)))
    for i in range(count)
  ]
  parts = [segments(d, lines=True, sentences=1) for d in made]
  return made, parts


def test_segments_of_lines_and_of_marks():
  text = 'One two.\n"Three?" Four\nfive! (Six.) Mr. X\n\n'
  document = Document('d', text)
  assert segments(document, lines=True, sentences=1) == (
    'One two.', '"Three?" Four', 'five! (Six.) Mr. X',
  )  # fmt: skip
  assert segments(document, lines=True, sentences=2) == (
    'One two. "Three?" Four', 'five! (Six.) Mr. X',
  )  # fmt: skip
  assert segments(document, lines=False, sentences=1) == (
    'One two.', '"Three?"', 'Four five!', '(Six.)', 'Mr. X',
  )  # fmt: skip


def test_half_of_the_pairs_follow_one_another():
  made, parts = documents(40, 51)
  pairs = make_pairs(made, parts, seed=0)
  assert len(pairs) == 40 * 50
  assert len({pair.id for pair in pairs}) == len(pairs)
  labels = np.array([pair.label for pair in pairs])
  assert abs(labels.mean() - 0.5) < 4 * np.sqrt(0.25 / len(pairs))
  others = []
  for number, pair in enumerate(pairs):
    i, j = divmod(number, 50)
    assert pair.text == f's {i} {j}' and pair.id == f'd{i}#{j}'
    if pair.label == next_sentence.FOLLOWS:
      assert pair.pair == f's {i} {j + 1}'
    else:
      _, document, segment = pair.pair.split()
      assert int(document) != i
      others.append((int(document), int(segment)))
  # All documents, and first and last segments too.
  assert {i for i, _ in others} == set(range(40))
  assert {j for _, j in others} == set(range(51))


def test_pairs_depend_on_the_seed_alone():
  made, parts = documents(5, 9)
  first = make_pairs(made, parts, seed=1)
  assert first == make_pairs(made, parts, seed=1)
  assert first != make_pairs(made, parts, seed=2)


def test_documents_of_uneven_length():
  made, parts = documents(3, 2)
  parts = [(), parts[1], ('alone',)]
  pairs = [make_pairs(made, parts, seed=n) for n in range(30)]
  assert {pair.pair for (pair,) in pairs} == {'s 1 1', 'alone'}
  for wrong in ([(), ('a', 'b'), ()], [('a',), ('b',), ('c',)]):
    with pytest.raises(InputError, match='needs two documents and a pair'):
      make_pairs(made, wrong, seed=0)


@pytest.mark.slow
def test_the_whole_run(tmp_path, capsys):
  """Two lines follow one another; random ones are mostly a third line."""
  custom_runs.write_vocab(tmp_path, ('one', 'two', 'alone', 'word'))
  blocks = ['one word\ntwo word', 'alone', 'alone'] * 60
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'a.txt').write_text('\n\n'.join(blocks) + '\n')
  rows = [json.dumps({'text': block}) for block in blocks]
  (tmp_path / 'data' / 'b.jsonl').write_text('\n'.join(rows))
  flags = custom_runs.flags(
    'next_sentence.py', tmp_path, num_steps=40, eval_every=40,
    **{'options.validation_file': 'b.jsonl', 'data.max_length': 8},
  )  # fmt: skip
  run = tmp_path / 'run'
  assert custom_runs.command('train', *flags, f'--workdir={run}') == 0
  results = json.loads((run / 'results.json').read_text())
  final = results['final']
  assert final['validation/accuracy'] > 0.8
  capsys.readouterr()
  assert custom_runs.command('eval', *flags, f'--checkpoint={run}') == 0
  assert json.loads(capsys.readouterr().out) == final
  with (run / 'predictions' / 'validation.csv').open(newline='') as file:
    found = list(csv.DictReader(file))
  assert len(found) == 60 and found[0]['id'] == 'b.jsonl:1#0'
  assert {row['prediction'] for row in found} == {'follows', 'random'}


def test_limits_count_pairs(tmp_path):
  text = '\n\n'.join('a\nb\nc' for _ in range(20))
  (tmp_path / 'a.txt').write_text(text)
  data = DataConfig(
    source='files', path=str(tmp_path), train_examples=7, eval_examples=1
  )
  task = TASKS['next_sentence'].make_task({'validation_fraction': 0.2}, data)
  assert len(task.load(data, 'train')) == 7
  assert len(task.load(data, 'validation')) == 1
  with pytest.raises(InputError, match=r'sentences is .*one of lines, marks'):
    TASKS['next_sentence'].make_task({'sentences': 'words'}, data)
