"""Texts as a model reads them, to fold and to check with."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mobilebert_jax.data.batching.features import Features, NumpyBatch, Ragged
from mobilebert_jax.export.source import Source
from mobilebert_jax.inference.graph import INPUTS
from mobilebert_jax.pipelines import predict_inputs
from mobilebert_jax.pipelines.predict_inputs import Form
from mobilebert_jax.pipelines.predict_kinds import KINDS
from mobilebert_jax.runtime.errors import InputError

if TYPE_CHECKING:
  from mobilebert_jax.config.run import TrainConfig
  from mobilebert_jax.tasks import Task
  from mobilebert_jax.training.evaluate import Split

# A batch is padded to one of these, so that runtimes and jax see few shapes.
LENGTHS = (16, 32, 64, 128, 256, 384, 512)
_ROWS = 8
_COLUMNS = ('input_ids', 'token_type_ids')
_FORMS: Mapping[str, Form] = {
  'MobileBertForNextSentencePrediction': Form(('text', 'text_pair')),
  'MobileBertForMultipleChoice': KINDS['choose'].form,
  'MobileBertForQuestionAnswering': KINDS['answer'].form,
}
_TEXT = KINDS['classify'].form


class Texts(NamedTuple):
  """Encoded texts.

  Attributes:
    features: their tokens.
    origin: where they are from, such as "the run's validation split".
    strings: the texts themselves, each a tuple; () where there are none.
  """

  features: Features
  origin: str
  strings: tuple[tuple[str, ...], ...] = ()

  def __len__(self) -> int:
    return len(self.features)

  def batches(
    self, rows: Sequence[int], lengths: Sequence[int]
  ) -> Iterator[NumpyBatch]:
    """Yields inputs of the model, by name.

    Args:
      rows: which texts.
      lengths: what batches are padded to: the least that is enough.
    """
    sizes = self.features.lengths()
    by_length: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda row: (sizes[row], row)):
      length = min(n for n in lengths if n >= sizes[row])
      by_length.setdefault(length, []).append(row)
    for length, same in sorted(by_length.items()):
      for start in range(0, len(same), _ROWS):
        batch = self.features.batch(np.array(same[start:][:_ROWS]), length)
        yield {name: batch[name] for name in INPUTS}


def find(
  source: Source, file: str | None, count: int, max_length: int
) -> tuple[Texts, str | None]:
  """Finds real texts, or makes token sequences up.

  Args:
    source: the model.
    file: of texts; None: those of the run that made the model.
    count: how many are enough.
    max_length: tokens that texts are cut to.

  Returns:
    The texts, and a sentence on why they are not real, if they are not.

  Raises:
    InputError: the file is not readable.
  """
  if file is not None:
    return from_file(source, pathlib.Path(file), count, max_length), None
  if source.run is None:
    why = f'{source.name} is no run, so it has no texts'
  else:
    try:
      return from_run(source, count, max_length), None
    except InputError as error:
      why = f"the run's texts cannot be read ({error})"
  return made_up(source, count, max_length), f'{why}; give some as --texts.'


def for_calibration(
  source: Source, file: str | None, count: int, max_length: int
) -> Texts:
  """Finds the texts that ranges are measured on.

  Args:
    source: the model.
    file: of texts; None: training examples of the run that made the model.
    count: how many are enough.
    max_length: tokens that texts are cut to.

  Raises:
    InputError: there are none, or the file is not readable.
  """
  if file is not None:
    return from_file(source, pathlib.Path(file), count, max_length)
  advice = 'give some, in a file as --texts has them, as --calibration.'
  if source.run is None:
    raise InputError(
      f'the ranges of activations are measured on real texts, and '
      f'{source.name} is no run that has some: {advice}'
    )
  try:
    return from_run(source, count, max_length, is_training=True)
  except InputError as error:
    raise InputError(
      f"the run's training examples, on which ranges are measured, cannot be "
      f'read ({error}); {advice}'
    ) from None


def from_run(
  source: Source, count: int, max_length: int, *, is_training: bool = False
) -> Texts:
  """Reads the first texts of a run's validation split, or of its training's.

  Raises:
    InputError: the data is not where it was, or has other labels than then.
  """
  _, task, split = read_split(
    source, count, max_length, is_training=is_training
  )
  strings: tuple[tuple[str, ...], ...] = ()
  if isinstance(split.examples, tuple):
    strings = tuple(tuple(task.texts(example)) for example in split.examples)
  return Texts(split.features, f"the run's {split.name} split", strings)


def read_split(
  source: Source, count: int, max_length: int, *, is_training: bool = False
) -> 'tuple[TrainConfig, Task, Split]':
  """Reads the first examples of a run's validation split, or of its training's.

  Args:
    source: the model, of a run.
    count: how many; records on disk are given out together.
    max_length: tokens that they are cut to.
    is_training: which split.

  Returns:
    the run's config with this length, its task, and the encoded examples.

  Raises:
    InputError: the data is not where it was.
  """
  # Tasks come with all that reads data.
  from mobilebert_jax.training import setup, starting

  assert source.run is not None
  config = source.run.read_config()
  data = dataclasses.replace(config.data, max_length=max_length)
  config = dataclasses.replace(config, data=data)
  task = setup.find_task(config)
  starting.check_labels(task, source.config, source.run)
  name = task.splits.train if is_training else task.splits.evaluation[0]
  examples = task.load(config.data, name)
  if isinstance(examples, tuple):
    examples = examples[:count]
  split = setup.encode_split(config, task, source.tokenizer, name, examples)
  return config, task, split


def from_file(
  source: Source, path: pathlib.Path, count: int, max_length: int
) -> Texts:
  """Reads the first texts of a file.

  Args:
    source: the model; its class says what an input is.
    path: a file that `predict` reads.
    count: how many are enough.
    max_length: tokens that texts are cut to.

  Raises:
    InputError: no such file, a wrong line, or no line.
  """
  form = _FORMS.get(source.head, _TEXT)
  inputs = predict_inputs.from_file(form, path, ())
  items = [item.fields for item in itertools.islice(inputs, count)]
  if not items:
    raise InputError(f'{path} holds no text.')
  return Texts(
    _encode(source, items, max_length, str(path)),
    str(path),
    tuple(_strings(item) for item in items),
  )


def made_up(source: Source, count: int, max_length: int) -> Texts:
  """Makes sequences of tokens up, always the same ones.

  Half of them have two parts where the model knows two; lengths are those of
  sentences and of whole texts.
  """
  rng = np.random.default_rng(0)
  tokenizer, config = source.tokenizer, source.config
  special = {*tokenizer.all_special_ids}
  words = np.array([i for i in range(len(tokenizer)) if i not in special])
  choices = 2 if source.head == 'MobileBertForMultipleChoice' else None
  rows: dict[str, list[list[int]]] = {name: [] for name in _COLUMNS}
  for index in range(count * (choices or 1)):
    room = max_length - 3
    size = max(1, min(room, int(rng.lognormal(3.0, 0.8))))
    tokens = rng.choice(words, size).tolist()
    first = tokens
    if config.type_vocab_size > 1 and index % 2 and size > 1:
      first, second = tokens[: size // 2], tokens[size // 2 :]
    else:
      second = []
    head = [tokenizer.cls_token_id, *first, tokenizer.sep_token_id]
    tail = [*second, tokenizer.sep_token_id] if second else []
    rows['input_ids'].append(head + tail)
    rows['token_type_ids'].append([0] * len(head) + [1] * len(tail))
  features = _features(source, rows, choices, max_length)
  return Texts(features, 'sequences of tokens that are made up')


def _encode(
  source: Source,
  items: Sequence[Mapping[str, Any]],
  max_length: int,
  where: str,
) -> Features:
  first, second, choices = _columns(source.head, items, where)
  encoded = source.tokenizer(
    first,
    second,
    truncation='only_second' if 'context' in items[0] else True,
    max_length=max_length,
    verbose=False,
  )
  rows = {name: encoded[name] for name in _COLUMNS}
  return _features(source, rows, choices, max_length)


def _columns(
  head: str, items: Sequence[Mapping[str, Any]], where: str
) -> tuple[list[str], list[str] | None, int | None]:
  """First texts, second texts if there are any, and choices of an example."""
  if head == 'MobileBertForMultipleChoice':
    sizes = {len(item['choices']) for item in items}
    if len(sizes) > 1:
      raise InputError(
        f'{where}: examples have {min(sizes)} to {max(sizes)} choices; export '
        'is checked with the same number for all.'
      )
    first = [item['question'] for item in items for _ in item['choices']]
    second = [choice for item in items for choice in item['choices']]
    return first, second, sizes.pop()
  names = (_FORMS.get(head) or _TEXT).fields
  first = [item[names[0]] for item in items]
  pairs = [item.get(names[1]) for item in items]
  if all(pair is None for pair in pairs):
    return first, None, None
  if any(pair is None for pair in pairs):
    raise InputError(f'{where}: some texts have a {names[1]} and some do not.')
  return first, [str(pair) for pair in pairs], None


def _features(
  source: Source,
  rows: Mapping[str, Sequence[Sequence[int]]],
  choices: int | None,
  max_length: int,
) -> Features:
  pad = {'input_ids': source.tokenizer.pad_token_id or 0, 'token_type_ids': 0}
  return Features(
    {name: Ragged.from_rows(rows[name]) for name in _COLUMNS},
    {},
    pad,
    choices,
    max_length=max_length,
  )


def _strings(item: Mapping[str, Any]) -> tuple[str, ...]:
  texts: list[str] = []
  for name, value in item.items():
    if name != 'id':
      texts += value if isinstance(value, list) else [value]
  return tuple(texts)
