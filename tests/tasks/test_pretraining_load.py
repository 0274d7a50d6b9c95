"""What a run learns from and is tested with, and what it refuses."""

import gzip
import json
import shutil

import numpy as np
import pytest

from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.records import prepared, record_files, records
from mobilebert_jax.data.records.tf_example import Examples, encode
from mobilebert_jax.runtime.errors import InputError
from tests.support.pretraining_sets import (
  TOKENIZER,
  features,
  load,
  write,
  write_every_kind,
)
from tests.support.tfrecords import record


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_every_kind(tmp_path_factory.mktemp('stored'))


def test_whole_files_are_held_out(folder):
  train, validation = (
    load(folder / 'dynamic', split) for split in ('train', 'validation')
  )
  every = records.find(folder / 'dynamic')
  names = [{source.name for source in part.sources} for part in (train,
           validation)]  # fmt: skip
  assert len(names[1]) == 1 and not names[0] & names[1]
  assert len(train) + len(validation) == len(every)
  half = PretrainingOptions(validation_fraction=0.5)
  assert len(load(folder / 'dynamic', 'validation', half).sources) == round(
    len(every.sources) / 2
  )
  # By their names, not their order: the same file every time.
  again = load(folder / 'dynamic', 'validation')
  assert [s.name for s in again.sources] == [s.name for s in validation.sources]
  both = PretrainingOptions(train_file='dynamic', validation_file='static')
  assert len(load(folder, 'train', both)) == len(every)
  assert len(load(folder, 'validation', both)) == len(
    records.find(folder / 'static')
  )


def test_limits_count_records(folder):
  assert len(load(folder / 'dynamic', train_examples=5)) == 5
  assert len(load(folder / 'dynamic', 'validation', eval_examples=3)) == 3


def test_no_file_is_in_both_splits(folder, tmp_path):
  """Also where what is tested with lies among what is learnt from."""
  data = tmp_path / 'tfrecord'
  shutil.copytree(folder / 'tfrecord', data)
  (tmp_path / 'linked').symlink_to(data)
  names = sorted(path.name for path in data.iterdir())
  for path, held in (
    (data, names[1]),
    (data, f'../linked/{names[1]}'),
    (tmp_path / 'linked', str(data / names[1])),
  ):
    options = PretrainingOptions(validation_file=held)
    train, validation = (
      load(path, split, options) for split in ('train', 'validation')
    )
    assert [source.name for source in train.sources] == names[:1]
    assert [source.name for source in validation.sources] == names[1:]
    assert not set(train.read(np.arange(len(train)))) & set(
      validation.read(np.arange(len(validation)))
    )
  for held in ('.', '../linked'):
    options = PretrainingOptions(validation_file=held)
    assert len(load(data, 'validation', options).sources) == 2
    with pytest.raises(InputError, match=r'validation_file=.* takes all of the '
                       'records; give records to learn from'):  # fmt: skip
      load(data, 'train', options)
  # Files of one name in two directories are two.
  both = PretrainingOptions(validation_file='../dynamic')
  assert len(load(folder / 'static', 'train', both)) == len(
    records.find(folder / 'static')
  )


def test_far_more_than_wanted_is_told_once(folder, tmp_path, capsys):
  """One of three files is a third; of 5% there are no files."""
  count = len(records.find(folder / 'dynamic'))
  for split in ('train', 'validation'):
    load(folder / 'dynamic', split)
  told = capsys.readouterr().out
  held = len(load(folder / 'dynamic', 'validation'))
  assert told.count('\n') == 1
  assert f'{held} of {count} records ({held / count:.0%}) are held out' in told
  assert 'validation_fraction is 0.05; ' in told and '--block_size' in told
  load(folder / 'tfrecord')
  told = capsys.readouterr().out
  assert 'records (50%)' in told and '--block_size' not in told
  load(folder / 'dynamic', options=PretrainingOptions(validation_fraction=0.3))
  assert capsys.readouterr().out == ''
  write(folder / 'a.jsonl', tmp_path / 'one', block_size=10**9)
  with pytest.raises(InputError, match=r'one file of records alone.*--block_s'):
    load(tmp_path / 'one')


def test_files_that_are_not_whole(folder, tmp_path):
  def copied(name='dynamic'):
    shutil.rmtree(tmp_path / 'copy', ignore_errors=True)
    shutil.copytree(folder / name, tmp_path / 'copy')
    return tmp_path / 'copy'

  path = copied()
  file = next(path.glob('*00001-of*.array_record'))
  file.unlink()
  with pytest.raises(InputError, match=r'00001-of.*no such file, but dataset'):
    records.find(path)
  path = copied()
  content = file.parent / file.name
  content.write_bytes(content.read_bytes()[:-1000])
  found = records.find(path)
  with pytest.raises(InputError, match=r'00001-of.* file is damaged'):
    found.read(np.arange(len(found)))
  record_files.write_array_record(content, [b'x'])
  with pytest.raises(InputError, match=r'damaged \(1 records instead of'):
    records.find(path).read(np.arange(len(found)))
  path = copied()
  (path / 'dataset.json').write_text('{')
  with pytest.raises(InputError, match=r'dataset\.json:1: cannot be read'):
    records.find(path)
  (path / 'dataset.json').unlink()
  (path / 'settings.json').unlink()
  with pytest.raises(InputError, match=r'no dataset\.json beside it'):
    records.find(path)
  for name in ('a.jsonl', 'absent'):
    other = PretrainingOptions(validation_file=f'../{name}')
    with pytest.raises(InputError, match=rf'{name}: there are no records'):
      load(folder / 'static', 'validation', other)
  one = tmp_path / 'one'
  one.mkdir()
  shutil.copy(folder / 'tfrecord' / 'x.tfrecord-00000-of-00002', one)
  with pytest.raises(
    InputError, match=r'one file of records alone.*validation'
  ):
    load(one)
  (one / 'x.tfrecord-00000-of-00002').write_bytes(b'')
  with pytest.raises(InputError, match='the TFRecord files have no record'):
    load(one)


OTHERS = {
  'a list': '[1, 2]',
  'keys': '{"model": "x"}',
  'their format': '{"format": "parquet", "blocks": [1]}',
  'damaged': '{"format": ',
  'a number': '3',
}


@pytest.mark.parametrize('name', [prepared.SETTINGS, prepared.DATASET])
@pytest.mark.parametrize('case', OTHERS)
def test_text_beside_files_of_other_programs_is_text(
  folder, tmp_path, case, name
):
  shutil.copy(folder / 'a.jsonl', tmp_path)
  (tmp_path / name).write_text(OTHERS[case])
  # One document is cut in two, to hold out its end.
  assert len(load(tmp_path)) == 24
  shutil.copytree(folder / 'tfrecord', tmp_path, dirs_exist_ok=True)
  assert len(records.find(tmp_path)) == len(records.find(folder / 'tfrecord'))


def test_settings_that_are_damaged_are_told(folder, tmp_path):
  """The records beside them say whose they are."""
  shutil.copytree(folder / 'dynamic', tmp_path / 'set')
  for text in ('{', '[]', '{}'):
    for name in (prepared.SETTINGS, prepared.DATASET):
      (tmp_path / 'set' / name).write_text(text)
    with pytest.raises(InputError, match=r'dataset\.json.*prepare the data'):
      load(tmp_path / 'set')
    with pytest.raises(InputError, match=r'settings\.json.*prepare the data'):
      write(folder / 'a.jsonl', tmp_path / 'set', block_size=9000)
  (tmp_path / 'set' / prepared.DATASET).write_text(
    json.dumps({'format': 1, 'blocks': 3})
  )
  with pytest.raises(InputError, match="json: 'vocabulary' is None"):
    load(tmp_path / 'set')


def changed(payload, **changes):
  """The record with other features."""
  found = Examples([payload])
  values = {
    name: found.floats(name)[0]
    if name == 'masked_lm_weights'
    else found.integers(name)[0]
    for name in found.names()
  }
  values |= changes
  return encode({k: v for k, v in values.items() if v is not None})


OTHER_FORMS = {
  'another length': ({'input_ids': np.full(64, 2)}, 'max_length is 64, not'),
  'another vocabulary': ({'input_ids': np.full(32, 9)}, 'first_token is 9'),
  'more to predict': (
    {'masked_lm_positions': np.zeros(76, int)}, 'predictions is 76, not 20',
  ),
  'no masks': ({'masked_lm_positions': None}, 'predictions is None, not 20'),
  'no pairs': (
    {'next_sentence_labels': None}, 'has_next_sentence is False, not True',
  ),
  'other names': (
    {'input_word_ids': np.full(32, TOKENIZER.cls_token_id)},
    'ids_name is input_word_ids, not input_ids',
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', OTHER_FORMS)
def test_files_of_different_forms_are_refused_at_the_start(
  folder, tmp_path, case
):
  changes, message = OTHER_FORMS[case]
  payload = records.find(folder / 'tfrecord').read(np.array([0]))[0]
  right = record(payload)
  for name in ('a', 'b'):
    (tmp_path / f'{name}.tfrecord').write_bytes(right * 2)
  (tmp_path / 'c.tfrecord').write_bytes(b'')
  options = PretrainingOptions(validation_file=str(folder / 'static'))
  assert len(features(tmp_path, options)) == 4
  other = record(changed(payload, **changes))
  (tmp_path / 'b.tfrecord').write_bytes(other + right)
  with pytest.raises(InputError, match=rf'b\.tfrecord: the record at byte 0 .*'
                     rf'another form .* a\.tfrecord: {message}'):  # fmt: skip
    features(tmp_path, options)


def test_empty_files_are_not_counted(folder, tmp_path):
  """One of them might be all that is held out."""
  shutil.copytree(folder / 'tfrecord', tmp_path, dirs_exist_ok=True)
  for number in range(9):
    (tmp_path / f'empty-{number}.tfrecord').write_bytes(b'')
  assert len(records.find(tmp_path).sources) == 2
  assert len(load(tmp_path, 'validation')) > 0


@pytest.mark.parametrize(
  'names',
  [
    ('x.tfrecord_000', 'x.tfrecord_001'),
    ('x.tf_record-00000-of-00002', 'x.tf_record-00001-of-00002'),
    ('part-00000-of-00002', 'part-00001-of-00002'),
    ('a.tfrec', 'B.TFREC'),
  ],
)
def test_names_that_others_give_to_records(folder, tmp_path, names):
  for name, other in zip(names, sorted((folder / 'tfrecord').iterdir())):
    shutil.copy(other, tmp_path / name)
  for name in ('._x.tfrecord', '.x.tfrecord.crc', 'part-00009-of-00010'):
    (tmp_path / name).write_text('no record')
  found = records.find(tmp_path)
  assert sorted(s.name for s in found.sources) == sorted(names)
  assert len(found) == len(records.find(folder / 'tfrecord'))
  # Compressed ones are recognised, and refused with what to do.
  path = tmp_path / 'part-00000-of-00002'
  data = (tmp_path / names[0]).read_bytes()
  path.write_bytes(gzip.compress(data))
  with pytest.raises(InputError, match=r'compressed \(gzip\).*\(gunzip\)'):
    records.find(tmp_path)
