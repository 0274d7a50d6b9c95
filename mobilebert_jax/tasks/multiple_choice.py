"""Multiple choice: which of several texts belongs to a text?

`choice_task` makes the task of any such questions; SWAG, RACE and
CommonsenseQA are at the end.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import SubmissionOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.examples.chunks import (
  Progress,
  in_chunks,
  room_for_text,
)
from mobilebert_jax.data.readers import bad_rows, choice_files, tables, tfds
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.metrics import classification
from mobilebert_jax.metrics.probabilities import negative_log_likelihood
from mobilebert_jax.models import MobileBertForMultipleChoice
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.prediction_files import csv_writer
from mobilebert_jax.tasks.task import (
  SPLITS,
  Baseline,
  Examples,
  Predictions,
  Splits,
  Task,
  TaskSpec,
  fixed,
  wanted_splits,
)
from mobilebert_jax.tokenizer import MobileBertTokenizer

# Which text of a pair is cut if both together are too long.
Cut = Literal['longest_first', 'only_first']
# The column that says which choices are there: 1, or 0 for a filler.
MASK = 'choice_mask'

_SPECIAL = 3


def encode(
  cut: Cut,
  examples: Sequence[ChoiceExample],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
) -> Features:
  """Tokenises the pair of each choice.

  An example with fewer choices than the longest one has fillers at its end:
  empty texts, which `choice_mask` marks with 0.

  Args:
    cut: See `cut_pair`.
    examples: What to encode.
    tokenizer: Makes the tokens.
    max_length: Longest sequence, special tokens included.
    progress: Called with the examples done and all of them.

  Returns:
    Sequence columns input_ids and token_type_ids with `choices` rows for each
    example; choice_mask (int32 [N, choices]), and labels (int32 [N]) if every
    example has an answer.

  Raises:
    InputError: `max_length` leaves no room for two texts.
  """
  room = room_for_text(max_length, _SPECIAL, least=2)
  choices = max(len(example.choices) for example in examples)
  frame = tokenizer.build_inputs_with_special_tokens
  types_of = tokenizer.create_token_type_ids_from_sequences
  ids: list[list[int]] = []
  types: list[list[int]] = []
  for _, chunk in in_chunks(examples, progress):
    tokens = _tokens(chunk, tokenizer)
    for example in chunk:
      for choice in example.choices:
        pair = cut_pair(tokens[example.text], tokens[choice], room, cut)
        ids.append(frame(*pair))
        types.append(types_of(*pair))
      missing = choices - len(example.choices)
      ids += [frame([])] * missing
      types += [types_of([])] * missing
  mask = [
    [int(i < len(example.choices)) for i in range(choices)]
    for example in examples
  ]
  answers = [example.answer for example in examples]
  labels = {} if None in answers else {'labels': np.array(answers, np.int32)}
  return Features(
    sequences={
      'input_ids': Ragged.from_rows(ids),
      'token_type_ids': Ragged.from_rows(types),
    },
    scalars={**labels, MASK: np.array(mask, np.int32)},
    pad={'input_ids': tokenizer.pad_token_id, 'token_type_ids': 0},
    choices=choices,
    max_length=max_length,
  )


def cut_pair(
  first: Sequence[int], second: Sequence[int], room: int, cut: Cut
) -> tuple[Sequence[int], Sequence[int]]:
  """Cuts two texts until both together fit.

  'longest_first' takes tokens from the end of the longer one (as transformers
  does). 'only_first' takes them from the end of the first one; a second text
  that alone is too long loses its beginning, because what tells choices apart
  is at its end.

  Args:
    first: Tokens of the first text.
    second: Tokens of the second text.
    room: Tokens of both together.
    cut: Which one is cut.
  """
  if len(first) + len(second) <= room:
    return first, second
  if cut == 'only_first':
    second = second[max(0, len(second) - room) :]
    return first[: room - len(second)], second
  shorter = min(len(first), len(second), room // 2)
  longer = room - shorter
  if len(first) > len(second):
    return first[:longer], second[:shorter]
  return first[:shorter], second[:longer]


def _tokens(
  examples: Sequence[ChoiceExample], tokenizer: MobileBertTokenizer
) -> dict[str, list[int]]:
  """Tokenises each text once."""
  texts = list(
    dict.fromkeys(
      text for example in examples for text in (example.text, *example.choices)
    )
  )
  encoded = tokenizer(
    texts,
    add_special_tokens=False,
    truncation=False,
    padding=False,
    verbose=False,
  )
  return dict(zip(texts, encoded['input_ids'], strict=True))


# Makes the rows of a prediction file from the questions and the chosen keys.
CsvRows = Callable[[Sequence[ChoiceExample], Sequence[str]], Iterable[Sequence]]


def choice_task(
  name: str,
  *,
  load: Callable[[Any, str], Examples],
  cut: Cut = 'longest_first',
  rows: CsvRows | None = None,
  splits: Splits = SPLITS,
  choices: int = 4,
) -> Task:
  """Makes the task of choosing one of several texts.

  Args:
    name: The task's name.
    load: `Task.load`, giving `ChoiceExample`s; their numbers of choices may
      differ.
    cut: Which text is cut if a pair is too long; see `cut_pair`.
    rows: The rows of '<split>.csv'; None: `id_and_key`.
    splits: Names of the splits.
    choices: Choices of a question, as far as they are known without data.
  """
  return Task(
    name=name,
    head=MobileBertForMultipleChoice,
    labels=(),
    primary_metric=f'{splits.evaluation[0]}/accuracy',
    load=load,
    encode=functools.partial(encode, cut),
    loss=loss,
    predict=predict,
    score=score,
    write_predictions=csv_writer(
      functools.partial(_file_rows, rows or id_and_key)
    ),
    texts=texts,
    outcomes=outcomes,
    summarize=summary.of_choices,
    dummy_examples=functools.partial(dummy_examples, choices),
    baseline=baseline,
    splits=splits,
  )


def dummy_examples(choices: int, words: int) -> tuple[ChoiceExample, ...]:
  """Makes one question with so many choices; see `Task`."""
  keys = tuple(map(str, range(choices)))
  text = ' '.join(['word'] * words)
  return (ChoiceExample('0', text, (text,) * choices, keys, answer=0),)


def loss(outputs: Any, batch: Mapping[str, Array]) -> tuple[losses.Term, ...]:
  """Returns the cross-entropy over the choices that are there."""
  return losses.multiple_choice_loss(
    _without_fillers(outputs, batch), batch['labels'], batch['weights']
  )


def predict(
  outputs: Any, batch: Mapping[str, Array]
) -> dict[str, Float[Array, 'B N']]:
  """Keeps the logits; a filler's is the dtype's lowest number."""
  return {'logits': _without_fillers(outputs, batch)}


def score(
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> dict[str, float]:
  """Returns the share of right answers: 'accuracy', 'accuracy_<group>'.

  Raises:
    InputError: A question has no answer.
  """
  del features
  return _scores(_chosen(predictions), examples)


def _scores(
  predicted: Int[np.ndarray, 'N'], examples: Sequence[ChoiceExample]
) -> dict[str, float]:
  answers = _answers(examples)
  scores = {'accuracy': classification.accuracy(predicted, answers)}
  groups = np.array([example.group or '' for example in examples])
  for group in sorted({*groups} - {''}):
    inside = groups == group
    scores[f'accuracy_{group}'] = classification.accuracy(
      predicted[inside], answers[inside]
    )
  return scores


def _file_rows(
  rows: CsvRows,
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Any,
) -> Iterable[Sequence[str]]:
  """Returns the rows of '<split>.csv' for the chosen keys."""
  del features
  chosen = _chosen(predictions)
  keys = [example.keys[i] for example, i in zip(examples, chosen, strict=True)]
  return rows(examples, keys)


def id_and_key(
  examples: Sequence[ChoiceExample], keys: Sequence[str]
) -> Iterable[Sequence[str]]:
  """Returns rows of id and chosen key, as CommonsenseQA asks for."""
  return zip((example.id for example in examples), keys, strict=True)


def texts(example: ChoiceExample) -> tuple[str, ...]:
  """Returns the question and its choices."""
  return (example.text, *example.choices)


def outcomes(
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> list[Outcome]:
  """Compares choice and answer; the error is -log p of the answer.

  Raises:
    InputError: A question has no answer.
  """
  del features
  answers, chosen = _answers(examples), _chosen(predictions)
  error = negative_log_likelihood(predictions['logits'], answers)
  return [
    Outcome(
      text=' | '.join(texts(example)),
      expected=example.choices[answer],
      predicted=example.choices[choice],
      error=float(cost),
      is_right=bool(answer == choice),
    )
    for example, answer, choice, cost in zip(
      examples, answers, chosen, error, strict=True
    )
  ]


def baseline(
  train: Sequence[ChoiceExample],
  train_features: Features,
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> Baseline:
  """Scores the place where the right choice stands most often; see `Task`."""
  del train_features, predictions, features
  place = int(np.argmax(np.bincount(_answers(train))))
  always = np.full(len(examples), place)
  return Baseline(f'always choice {place + 1}', _scores(always, examples))


def _without_fillers(
  outputs: Any, batch: Mapping[str, Array]
) -> Float[Array, 'B N']:
  logits = outputs.logits
  return jnp.where(batch[MASK] > 0, logits, jnp.finfo(logits.dtype).min)


def _chosen(predictions: Predictions) -> Int[np.ndarray, 'N']:
  return np.argmax(predictions['logits'], axis=-1)


def _answers(examples: Sequence[ChoiceExample]) -> Int[np.ndarray, 'N']:
  answers = [example.answer for example in examples]
  if None in answers:
    raise InputError('a split without answers cannot be scored.')
  return np.array(answers, np.int64)


_SWAG_FILES = {
  'train': 'train.csv',
  'validation': 'val.csv',
  'test': 'test.csv',
}
_COMMONSENSEQA_FILES = {
  'train': 'train_rand_split.jsonl',
  'validation': 'dev_rand_split.jsonl',
  'test': 'test_rand_split_no_answers.jsonl',
}
# The answers of RACE's test set are public.
_RACE_SPLITS = Splits(evaluation=('validation', 'test'), test=())
_RACE_FOLDERS = {'train': 'train', 'validation': 'dev', 'test': 'test'}
_RACE_COLUMNS = ('example_id', 'article', 'questions', 'options', 'answers')


def _make_swag(options: SubmissionOptions, data: DataConfig) -> Task:
  del data
  return choice_task(
    'swag', load=_load_swag, rows=_numbered, splits=wanted_splits(options)
  )


def _load_swag(data: DataConfig, split: str) -> tuple[ChoiceExample, ...]:
  path = _file('swag', _SWAG_FILES, data, split)
  with bad_rows.collect(path, data.bad_rows) as bad:
    labelled = split not in SPLITS.test
    questions = list(choice_files.read_swag(path, labelled, bad))
  return _limited(questions, data, split)


def _numbered(
  examples: Sequence[ChoiceExample], keys: Sequence[str]
) -> Iterable[Sequence[str]]:
  """Yields rows as SWAG's baselines write them: ',pred', then number, key."""
  del examples
  yield '', 'pred'
  for number, key in enumerate(keys):
    yield str(number), key


def _make_commonsenseqa(options: SubmissionOptions, data: DataConfig) -> Task:
  del data
  return choice_task(
    'commonsenseqa',
    load=_load_commonsenseqa,
    splits=wanted_splits(options),
    choices=5,
  )


def _load_commonsenseqa(
  data: DataConfig, split: str
) -> tuple[ChoiceExample, ...]:
  path = _file('commonsenseqa', _COMMONSENSEQA_FILES, data, split)
  labelled = split not in SPLITS.test
  with bad_rows.collect(path, data.bad_rows) as bad:
    questions = list(choice_files.read_commonsenseqa(path, labelled, bad))
  return _limited(questions, data, split)


def _load_race(data: DataConfig, split: str) -> tuple[ChoiceExample, ...]:
  readers = {'tfds': _race_from_tfds, 'files': _race_from_files}
  if data.source not in readers:
    raise InputError(
      f'config.data.source={data.source!r} does not fit race; use "tfds" or '
      '"files".'
    )
  folder = _RACE_FOLDERS[split]
  where = f'{data.path or "race"}/{folder}'
  with bad_rows.collect(where, data.bad_rows) as bad:
    questions = list(readers[data.source](data.path, folder, bad))
  return _limited(questions, data, split)


def _race_from_tfds(
  path: str | None, split: str, bad: BadRows
) -> Iterator[ChoiceExample]:
  for group in choice_files.RACE_GROUPS:
    name = f'race/{group}'
    rows = list(tfds.read_split(name, split, _RACE_COLUMNS, path))
    # TFDS stores articles in an order of its own.
    rows.sort(key=lambda row: _article_order(row['example_id']))
    for row in rows:
      row = {**row, 'id': row['example_id']}
      place = f'{name}/{split}: {row["id"]}'
      yield from choice_files.race_questions(row, group, place, bad=bad)


def _article_order(name: str) -> tuple[int, int, str]:
  return choice_files.race_order(pathlib.PurePath(name))


def _race_from_files(
  path: str | None, split: str, bad: BadRows
) -> Iterator[ChoiceExample]:
  root = files.path(str(path))
  for folder in (root, root / 'RACE'):
    if (folder / split).is_dir():
      return choice_files.read_race(folder / split, bad)
  raise InputError(
    f'config.data.path={path!r}: expected the directory {split} there or in '
    f'{str(root / "RACE")!r}.'
  )


def _file(
  name: str, names: Mapping[str, str], data: DataConfig, split: str
) -> pathlib.Path:
  if data.source != 'files':
    raise InputError(
      f'config.data.source={data.source!r} does not fit {name}, which TFDS '
      'does not '
      'have; use "files".'
    )
  return (
    tables.find_folder(str(data.path), name, (names[split],)) / names[split]
  )


def _limited(
  examples: Iterable[ChoiceExample], data: DataConfig, split: str
) -> tuple[ChoiceExample, ...]:
  limit = data.limit(is_train=split == SPLITS.train)
  return tuple(examples)[:limit]


SPECS = (
  TaskSpec('swag', _make_swag),
  TaskSpec('commonsenseqa', _make_commonsenseqa),
  fixed(
    choice_task('race', load=_load_race, cut='only_first', splits=_RACE_SPLITS)
  ),
)
