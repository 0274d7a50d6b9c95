"""Scores of prediction files that exist already, as the official scripts count.

SQuAD's JSON (evaluate-v1.1.py, evaluate-v2.0.py), columns of words and tags
(conlleval, wnuteval) and GLUE's tables. All scores are shares from 0 to 1, as
everywhere in this package; SQuAD's scripts and conlleval print percentages.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import lines, squad, tables
from mobilebert_jax.data.readers.conll import Sentence, read_sentences
from mobilebert_jax.metrics import squad as squad_metrics
from mobilebert_jax.metrics import tagging
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import glue
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tasks.tagging import task as tagging_task

_SQUAD = {'squad_v1': '1.1', 'squad_v2': '2.0'}
_TAGGING = ('conll2003', 'wnut17', 'custom_tagging')
TASKS = (*glue.TABLE, *_SQUAD, *_TAGGING)


def score(
  task: str,
  predictions: pathlib.Path,
  data: pathlib.Path | None,
  *,
  split: str | None = None,
  null_odds: pathlib.Path | None = None,
  threshold: float | None = None,
) -> dict[str, Any]:
  """Scores a file of predictions.

  Args:
    task: one of `TASKS`.
    predictions: the file.
    data: the official file, or a directory that holds it; None: the tags of a
      file of columns stand in it, in the last column but one.
    split: of GLUE, which one, such as 'validation_mismatched'; None: the first.
    null_odds: of SQuAD 2.0, a JSON object: how sure the model is, by question,
      that there is no answer.
    threshold: of SQuAD 2.0, a question with higher odds has no answer; None:
      none has higher ones (the official script's default).

  Returns:
    The scores by their names.

  Raises:
    InputError: a file is missing or wrong, or they do not fit each other.
  """
  for name, value, wanted in (
    ('null_odds', null_odds, 'squad_v2'), ('threshold', threshold, 'squad_v2')
  ):  # fmt: skip
    if value is not None and task != wanted:
      raise InputError(f'--{name} is for {wanted}, not for {task}.')
  if split is not None and task not in glue.TABLE:
    raise InputError(f'--split is for the tasks of GLUE, not for {task}.')
  if task in _TAGGING:
    return score_tags(predictions, data)
  if data is None:
    raise InputError(
      f'the flag --data is missing: {task} is scored against the official file.'
    )
  if task in _SQUAD:
    return score_answers(task, predictions, data, null_odds, threshold)
  return score_labels(task, predictions, data, split)


def score_answers(
  task: str,
  predictions: pathlib.Path,
  data: pathlib.Path,
  null_odds: pathlib.Path | None = None,
  threshold: float | None = None,
) -> dict[str, Any]:
  """Scores answers to SQuAD's questions; see `score`.

  A question without a prediction counts as wrong in SQuAD 1.1, as the script
  has it; the script of 2.0 does not take such a file, and nor does this.
  """
  with_null = task == 'squad_v2'
  if data.is_dir():
    data = squad.find_file(data, f'dev-v{_SQUAD[task]}')
  questions = list(squad.read_file(data, with_null=with_null))
  given = _mapping(predictions, str, 'a text')
  missing = [one.id for one in questions if one.id not in given]
  if missing and (with_null or len(missing) == len(questions)):
    raise InputError(
      f'{predictions}: question {missing[0]!r} and {len(missing) - 1:,} more '
      f'of the {len(questions):,} in {data} have no prediction.'
    )
  golds = [[answer.text for answer in one.answers or ()] for one in questions]
  texts = [given.get(one.id, '') for one in questions]
  if not with_null:
    scores: dict[str, Any] = squad_metrics.scores_v1(texts, golds)
    # Even where a right answer has no words, as no prediction has.
    wrong = [i for i, one in enumerate(questions) if one.id not in given]
    if wrong:
      lost = squad_metrics.scores_v1(
        [texts[i] for i in wrong], [golds[i] for i in wrong]
      )
      for name, value in lost.items():
        scores[name] -= value * len(wrong) / len(questions)
    return scores | {'total': len(questions), 'unanswered': len(missing)}
  if null_odds is None:
    if threshold is not None:
      raise InputError('--threshold needs --null_odds, which it is a limit of.')
    odds = [0.0] * len(questions)
  else:
    known = _mapping(null_odds, float, 'a number')
    absent = [one.id for one in questions if one.id not in known]
    if absent:
      raise InputError(f'{null_odds}: question {absent[0]!r} has no number.')
    odds = [float(known[one.id]) for one in questions]
  limit = threshold if threshold is not None else float('inf')
  scores = squad_metrics.scores_v2(texts, golds, odds, limit)
  if null_odds is None:
    scores = {k: v for k, v in scores.items() if not k.startswith('best_')}
  return scores | {'total': len(questions)}


def _mapping(path: pathlib.Path, kind: type, what: str) -> Mapping[str, Any]:
  """Reads a JSON object of one kind of values, by question."""
  value = lines.read_json(path, f'an object with {what} for each question')
  if not isinstance(value, dict):
    raise InputError(
      f'{path}: expected an object with {what} for each question, such as '
      f'{json.dumps({"56be4db0acb8001400a502ec": "Denver Broncos"})}.'
    )
  for name, item in value.items():
    is_number = isinstance(item, int) and not isinstance(item, bool)
    if not isinstance(item, kind) and not (kind is float and is_number):
      raise InputError(f'{path}: question {name!r} has {item!r}, not {what}.')
  return value


def score_tags(
  predictions: pathlib.Path, data: pathlib.Path | None
) -> dict[str, Any]:
  """Scores tags of words; see `score`.

  Returns:
    'precision', 'recall' and 'f1' as conlleval counts entities, 'accuracy' of
    words, 'strict_f1' (an entity counts only if its scheme allows its tags),
    and 'types': precision, recall, f1 and the number of entities of each type.
  """
  predicted = list(read_sentences(predictions))
  if data is None:
    gold = [_tags_before(sentence) for sentence in predicted]
  else:
    known = list(read_sentences(data))
    _check_words(known, predicted, data, predictions)
    gold = [list(sentence.tags) for sentence in known]
  tags = [list(sentence.tags) for sentence in predicted]
  pairs = zip(predicted, gold, strict=True)
  asked = iob.find_scheme(
    dataclasses.replace(one, tags=tuple(right)) for one, right in pairs
  )
  scheme: iob.Scheme = 'IOB1' if asked == 'IOB1' else 'IOB2'
  if asked == 'BIOES':
    gold, tags = (
      [iob.from_bioes(one) for one in rows] for rows in (gold, tags)
    )
  strict = tagging_task.score_tags(scheme, gold, tags)
  counted = tagging.lenient(gold, tags)
  types = tagging.by_type(
    [iob.to_iob2(one) for one in gold], [iob.to_iob2(one) for one in tags],
    'IOB2',
  )  # fmt: skip
  return {
    'precision': counted.precision,
    'recall': counted.recall,
    'f1': counted.f1,
    'accuracy': strict['accuracy'],
    'strict_f1': strict['f1'],
    'words': sum(map(len, gold)),
    'entities': counted.support,
    'types': {
      name: {
        'precision': one.precision,
        'recall': one.recall,
        'f1': one.f1,
        'entities': one.support,
      }
      for name, one in types.items()
    },
  }


def _tags_before(sentence: Sentence) -> list[str]:
  """Returns the tags in the last column but one."""
  rows = [
    line.split('\t') if sentence.separator == '\t' else line.split()
    for line in sentence.lines
  ]
  if len(rows[0]) < 3:
    raise InputError(
      f'{sentence.place(0)}: expected a word, its right tag and the predicted '
      'one; or name the file with the right tags, --data=FILE.'
    )
  return [row[-2] for row in rows]


def _check_words(
  known: Sequence[Sentence],
  predicted: Sequence[Sentence],
  data: pathlib.Path,
  predictions: pathlib.Path,
):
  for right, guess in zip(known, predicted):
    for number, words in enumerate(zip(right.words, guess.words)):
      if words[0] != words[1]:
        raise InputError(
          f'{guess.place(number)}: the word is {words[1]!r}, but {words[0]!r} '
          f'at {right.place(number)}; both files must have the same words.'
        )
    if len(right.words) != len(guess.words):
      raise InputError(
        f'{guess.place(0)}: a sentence of {len(guess.words)} words, but '
        f'{len(right.words)} at {right.place(0)}.'
      )
  if len(known) != len(predicted):
    raise InputError(
      f'{predictions} has {len(predicted):,} sentences, but {data} has '
      f'{len(known):,}.'
    )


def score_labels(
  task: str, predictions: pathlib.Path, data: pathlib.Path, split: str | None
) -> dict[str, Any]:
  """Scores GLUE's predictions: a table with the columns index, prediction."""
  row = glue.TABLE[task]
  table, target = row.table, row.target
  split = split or table.splits.evaluation[0]
  if split not in table.splits.evaluation:
    raise InputError(
      f'--split={split}: the splits of {task} with public labels are '
      f'{", ".join(table.splits.evaluation)}.'
    )
  if data.is_file():
    table = dataclasses.replace(table, files={**table.files, split: data.name})
    data = data.parent
  config = DataConfig(source='files', path=str(data))
  examples = table.load(config, split)
  words = _words(predictions)
  missing = [one.id for one in examples if one.id not in words]
  if missing or len(words) != len(examples):
    first = f'; the index {missing[0]} is missing' if missing else ''
    raise InputError(
      f'{predictions} has {len(words):,} predictions, but {split} of {task} '
      f'has {len(examples):,} examples{first}.'
    )
  index = {name: i for i, name in enumerate(target.labels)}
  # The official spelling wins.
  index |= {name: i for i, name in enumerate(table.labels)}
  decided = [_decision(words[one.id], index, predictions) for one in examples]
  truth = target.truth([one.label for one in examples])
  scores: dict[str, Any] = {
    name: function(np.array(decided), truth)
    for name, function in row.scores.items()
  }
  return scores | {'total': len(examples)}


def _words(path: pathlib.Path) -> dict[str, tuple[str, int]]:
  """Returns the prediction and its line, by the example's index."""
  words: dict[str, tuple[str, int]] = {}
  for line, cells in tables.read_tsv(path, ('index', 'prediction')):
    name = cells['index']
    if name in words:
      raise InputError(
        f'{path}:{line}: the index {name} is that of line {words[name][1]} too.'
      )
    words[name] = (cells['prediction'], line)
  return words


def _decision(
  word: tuple[str, int], index: Mapping[str, int], path: pathlib.Path
) -> int | float:
  text, line = word
  if index:
    if text in index:
      return index[text]
    expected = f'one of {", ".join(map(repr, index))}'
  else:
    try:
      return float(text)
    except ValueError:
      expected = 'a number'
  raise InputError(
    f'{path}:{line}: the prediction is {text!r}; expected {expected}.'
  )
