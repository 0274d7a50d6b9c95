"""The cache of encoded examples: served when equal, and never otherwise."""

import dataclasses
import logging
import os
import subprocess
import sys
import zipfile
from concurrent import futures

import numpy as np
import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.data.batching import token_cache
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import setup
from tests.support import tiny

_VOCAB = [*tiny.SPECIAL, *tiny.WORDS]
_EXAMPLES = tuple(
  TextExample(str(i), f'{tiny.WORDS[i % 6]} film', None, i % 2)
  for i in range(12)
)
_SETTINGS = {'task': 'sst2', 'options': {}, 'data': {'max_length': 8}}


@dataclasses.dataclass(frozen=True)
class Rich:
  """An example with all that examples may have."""

  text: str
  numbers: np.ndarray
  parts: tuple[TextExample, ...] = ()
  more: float | None = None


class Counter:
  """An encoder that counts its calls."""

  def __init__(self, features=None):
    self.calls: list[int] = []
    self._features = features

  def __call__(self, examples):
    self.calls.append(len(examples))
    return self._features or make_features(len(examples))


def make_features(count=12, **changes):
  rows = [[2, 5 + i % 9, 3][: 2 + i % 2] for i in range(2 * count)]
  columns = {
    'sequences': {
      'input_ids': Ragged.from_rows(rows),
      'token_type_ids': Ragged.from_rows([[0] * len(r) for r in rows]),
    },
    'scalars': {
      'labels': np.arange(count, dtype=np.float32),
      'choice_mask': np.ones((count, 2), np.int32),
    },
    'pad': {'input_ids': 0, 'token_type_ids': 0, 'labels': -100},
    'choices': 2,
    'max_length': 8,
  }
  return Features(**columns | changes)


def assert_equal(first, second):
  assert list(first.sequences) == list(second.sequences)
  assert list(first.scalars) == list(second.scalars)
  for name, ragged in first.sequences.items():
    for one, other in (
      (ragged.values, second.sequences[name].values),
      (ragged.offsets, second.sequences[name].offsets),
    ):
      np.testing.assert_array_equal(one, other)
      assert one.dtype == other.dtype
  for name, values in first.scalars.items():
    np.testing.assert_array_equal(values, second.scalars[name])
    assert values.dtype == second.scalars[name].dtype
  assert dict(first.pad) == dict(second.pad)
  assert first.choices == second.choices
  assert first.max_length == second.max_length
  assert first.gather == second.gather


def tokenizer(**settings):
  return MobileBertTokenizerFast(_VOCAB, **settings)


def test_equal_input_is_encoded_once(tmp_path):
  encode = Counter()
  folder = tmp_path / 'a' / 'b'
  first = token_cache.encode(folder, encode, _EXAMPLES, tokenizer(), _SETTINGS)
  # Another object with the same content, and settings in another order.
  settings = dict(reversed(_SETTINGS.items()))
  again = tuple(dataclasses.replace(e) for e in _EXAMPLES)
  second = token_cache.encode(folder, encode, again, tokenizer(), settings)
  assert encode.calls == [12]
  assert_equal(first, second)
  [file] = folder.iterdir()
  assert file.suffix == '.npz'


def test_every_field_is_kept():
  """A new field of Features must be stored, or the cache would lose it."""
  assert {field.name for field in dataclasses.fields(Features)} == {
    'sequences', 'scalars', 'pad', 'choices', 'max_length', 'transform',
    'gather',
  }  # fmt: skip


def changed(index, **changes):
  examples = list(_EXAMPLES)
  examples[index] = dataclasses.replace(examples[index], **changes)
  return tuple(examples)


_CHANGES = {
  'a text': {'examples': changed(7, text='good film.')},
  'a space': {'examples': changed(7, text='bad  film')},
  'a label': {'examples': changed(3, label=0)},
  'a label of another kind': {'examples': changed(3, label=1.0)},
  'no label': {'examples': changed(3, label=None)},
  'an id': {'examples': changed(3, id='03')},
  'an empty pair': {'examples': changed(0, pair='')},
  'text on the other side': {
    'examples': changed(0, text='good', pair='film')
  },
  'one less': {'examples': _EXAMPLES[:-1]},
  'another order': {'examples': _EXAMPLES[::-1]},
  'a word more': {
    'tokenizer': MobileBertTokenizerFast([*_VOCAB, 'new'])
  },
  'words swapped': {
    'tokenizer': MobileBertTokenizerFast([*_VOCAB[:-2], 'a', 'plot'])
  },
  'case': {'tokenizer': tokenizer(do_lower_case=False)},
  'accents': {'tokenizer': tokenizer(strip_accents=False)},
  'the side that is cut': {'tokenizer': tokenizer(truncation_side='left')},
  'a special token': {
    'tokenizer': tokenizer(additional_special_tokens=['[X]'])
  },
  'max_length': {'settings': {**_SETTINGS, 'data': {'max_length': 7}}},
  'an option': {'settings': {**_SETTINGS, 'options': {'doc_stride': 3}}},
  'the task': {'settings': {**_SETTINGS, 'task': 'cola'}},
}  # fmt: skip


def key(examples=_EXAMPLES, tokenizer=None, settings=_SETTINGS):
  tokenizer = tokenizer or MobileBertTokenizerFast(_VOCAB)
  return token_cache.key_of(examples, tokenizer, settings)


def test_every_change_has_a_key_of_its_own():
  keys = {name: key(**change) for name, change in _CHANGES.items()}
  keys['nothing'] = key()
  assert len(set(keys.values())) == len(keys)


def test_the_code_and_its_libraries_are_part_of_the_key(monkeypatch):
  before = key()
  monkeypatch.setattr(token_cache, '_code', lambda: 'another release')
  assert key() != before
  monkeypatch.undo()
  monkeypatch.setattr(token_cache.tokenizers, '__version__', '0.0')
  assert key() != before


def test_calls_of_the_tokenizer_do_not_change_the_key():
  tokenizer = MobileBertTokenizerFast(_VOCAB)
  before = key(tokenizer=tokenizer)
  tokenizer(['good film'], truncation=True, max_length=3, padding=True)
  assert key(tokenizer=tokenizer) == before


def test_the_key_is_the_same_in_every_process():
  code = f"""
from mobilebert_jax.data.batching import token_cache
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
tokenizer = MobileBertTokenizerFast({_VOCAB!r})
examples = (Outcome('x', 'a', 'b', 0.5, False),)
print(token_cache.key_of(examples, tokenizer, {{'b': 1, 'a': [None]}}))
"""
  out = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONHASHSEED': '7'},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  examples = (Outcome('x', 'a', 'b', 0.5, False),)
  assert out.strip() == key(examples, settings={'a': [None], 'b': 1})


def rich(**changes):
  values = {
    'text': 'x',
    'numbers': np.arange(6, dtype=np.int32).reshape(2, 3),
    'parts': (_EXAMPLES[0],),
    'more': 0.5,
  }
  return Rich(**values | changes)


def test_arrays_and_parts_of_examples_count():
  numbers = np.arange(6, dtype=np.int32)
  variants = (
    rich(),
    rich(numbers=numbers.reshape(3, 2)),
    rich(numbers=numbers.reshape(2, 3).astype(np.int64)),
    rich(numbers=numbers.reshape(2, 3) + 1),
    rich(parts=()),
    rich(parts=(_EXAMPLES[1],)),
    rich(more=None),
    rich(text='\ud800'),
  )
  keys = {key((example,)) for example in variants}
  assert len(keys) == len(variants)
  assert key((rich(),)) == key((rich(),))


def test_what_has_no_stable_form_is_refused():
  with pytest.raises(TypeError, match='set has no stable form'):
    key((rich(more={1}),))
  with pytest.raises(TypeError, match='array of objects'):
    key((rich(numbers=np.array([None])),))


def entry(folder):
  """A folder with one entry, and its file."""
  token_cache.encode(folder, Counter(), _EXAMPLES, tokenizer(), _SETTINGS)
  [path] = folder.iterdir()
  return path


def cut(path):
  path.write_bytes(path.read_bytes()[:-40])


def empty(path):
  path.write_bytes(b'')


def flip(path):
  data = bytearray(path.read_bytes())
  labels = make_features().scalars['labels'].tobytes()
  data[data.index(labels) + 7] ^= 0xFF
  path.write_bytes(bytes(data))


def pickled(path):
  with path.open('wb') as file:
    np.savez(file, about=np.array([{}], object))


def of_another_key(path):
  token_cache.save(path, 'other', make_features())


def without_a_column(path):
  with zipfile.ZipFile(path) as archive:
    kept = {n: archive.read(n) for n in archive.namelist() if 'scal' not in n}
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in kept.items():
      archive.writestr(name, data)


@pytest.mark.parametrize(
  'damage', [cut, empty, flip, pickled, of_another_key, without_a_column]
)
def test_a_damaged_file_is_made_again(tmp_path, damage, caplog):
  path = entry(tmp_path)
  good = path.read_bytes()
  damage(path)
  encode = Counter()
  with caplog.at_level(logging.WARNING):
    features = token_cache.encode(
      tmp_path, encode, _EXAMPLES, tokenizer(), _SETTINGS
    )
  assert encode.calls == [12]
  assert_equal(features, make_features())
  assert path.read_bytes() == good
  [record] = caplog.records
  assert f'{path} is damaged' in record.getMessage()
  assert '\n' not in record.getMessage()


def test_no_changed_byte_is_ever_served(tmp_path):
  path = entry(tmp_path)
  good = path.read_bytes()
  rng = np.random.default_rng(0)
  for place in rng.integers(0, len(good), 150):
    data = bytearray(good)
    data[place] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(data))
    try:
      features = token_cache.load(path, path.stem, lambda: None)
    # Whatever it raises, `encode` takes it for damage.
    except Exception:
      continue
    assert_equal(features, make_features())


def test_errors_of_the_encoder_are_not_kept(tmp_path):
  def fail(examples):
    raise InputError('wrong')

  for _ in range(2):
    with pytest.raises(InputError, match='wrong'):
      token_cache.encode(tmp_path, fail, _EXAMPLES, tokenizer(), _SETTINGS)
  assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match=r'config\.data\.cache_dir=.*/file/x'):
    token_cache.encode(
      tmp_path / 'file/x', Counter(), _EXAMPLES, tokenizer(), _SETTINGS
    )


def test_a_full_disk_costs_only_the_cache(tmp_path, caplog, monkeypatch):
  def full(file, **arrays):
    file.write(b'half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(token_cache.np, 'savez', full)
  features = token_cache.encode(
    tmp_path, Counter(), _EXAMPLES, tokenizer(), _SETTINGS
  )
  assert_equal(features, make_features())
  assert 'cannot be written (No space left on device)' in caplog.text
  assert not list(tmp_path.iterdir())


def test_writers_at_the_same_time(tmp_path):
  """Each sees a whole file or none; one file is left."""

  def work(_):
    return token_cache.encode(
      tmp_path, Counter(), _EXAMPLES, tokenizer(), _SETTINGS
    )

  with futures.ThreadPoolExecutor(8) as pool:
    for features in pool.map(work, range(24)):
      assert_equal(features, make_features())
  assert len(list(tmp_path.iterdir())) == 1


def test_a_transform_comes_from_the_encoder_again(tmp_path):
  def transform(columns, rows, seed, epoch):
    return columns

  calls = []

  def encode(examples):
    calls.append(len(examples))
    if len(examples) < 3:
      raise InputError('nothing can be made of these')
    return make_features(transform=transform)

  def run():
    return token_cache.encode(
      tmp_path, encode, _EXAMPLES, tokenizer(), _SETTINGS
    )

  assert run().transform is transform
  second = run()
  assert second.transform is transform
  assert calls == [12, 1, 2, 4]
  assert_equal(second, make_features())


def config(path, *overrides):
  return configure(path, overrides)


def encoded(config):
  """The validation split's features, and how often it was encoded."""
  task = setup.find_task(config)
  calls = []

  def encode(*args):
    calls.append(1)
    return task.encode(*args)

  counted = dataclasses.replace(task, encode=encode)
  name = config.tokenizer
  split = setup.load_split(
    config, counted, MobileBertTokenizerFast.from_pretrained(name), 'validation'
  )
  return split.features, len(calls)


def test_runs_share_what_is_equal(tmp_path):
  path = tiny.write(tmp_path)
  kept = f'--config.data.cache_dir={tmp_path}/tokens'
  plain, _ = encoded(config(path))
  first, calls = encoded(config(path, kept))
  assert calls == 1
  # What has no part in the encoding does not matter.
  other = config(
    path, kept, '--config.seed=3', '--config.batch_size=16',
    '--config.data.buckets=(4,8)', '--config.data.batching=padded',
  )  # fmt: skip
  second, calls = encoded(other)
  assert calls == 0
  assert_equal(first, plain)
  assert_equal(second, plain)
  for change in ('max_length=7', 'eval_examples=9'):
    _, calls = encoded(
      config(path, kept, f'--config.data.{change}', '--config.data.buckets=()')
    )
    assert calls == 1, change
  rows = (tmp_path / 'SST-2/dev.tsv').read_text().replace('good film', 'fine')
  (tmp_path / 'SST-2/dev.tsv').write_text(rows)
  assert encoded(config(path, kept))[1] == 1


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
  path = tiny.write(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.setattr(
    token_cache, 'encode', lambda *args: pytest.fail('was used')
  )
  assert encoded(config(path))[1] == 1
  assert not (tmp_path / 'home').exists()
