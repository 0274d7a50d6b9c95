"""Weights in other forms: read where that is plain, else said what they are."""

import json
import shutil
import struct
import zipfile

import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.convert import source
from mobilebert_jax.convert.formats import foreign, safetensors
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.runtime.errors import InputError
from tests.support import mutants
from tests.support.convert_models import assert_same_bits, tiny

MODEL = models.MobileBertModel
WEIGHTS = 'model.safetensors'


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp('saved')
  pair = tiny(MODEL)
  save_pretrained(directory, *pair)
  return directory, pair[1]


@pytest.fixture
def model_dir(saved, tmp_path):
  return shutil.copytree(saved[0], tmp_path / 'm')


def _with_metadata(path, **metadata):
  content = path.read_bytes()
  (size,) = struct.unpack('<Q', content[:8])
  header = json.loads(content[8 : 8 + size])
  header['__metadata__'] = metadata
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + content[8 + size :])


@pytest.mark.parametrize(
  'prefix', ['module.', '_orig_mod.', 'module._orig_mod.', 'model.mobilebert.']
)
def test_names_of_wrapped_models(prefix, model_dir, saved):
  tensors = safetensors.read(model_dir / WEIGHTS)
  safetensors.write(
    model_dir / WEIGHTS, {prefix + name: x for name, x in tensors.items()}
  )
  result = load_pretrained(MODEL, model_dir)
  assert_same_bits(result.params, saved[1])
  assert 'which a wrapper has put there' in result.report.notes[0]


@pytest.mark.parametrize(
  ('writer', 'option'), [('tf', 'from_tf'), ('flax', 'from_flax')]
)
def test_safetensors_of_other_programs(writer, option, model_dir):
  _with_metadata(model_dir / WEIGHTS, format=writer)
  with pytest.raises(InputError, match=f'{option}=True and save it there'):
    load_pretrained(MODEL, model_dir)


def test_an_adapter(model_dir):
  name = 'base_model.model.mobilebert.x.lora_A.weight'
  safetensors.write(model_dir / WEIGHTS, {name: np.zeros(2, np.float32)})
  with pytest.raises(InputError, match='an adapter, which changes another mod'):
    load_pretrained(MODEL, model_dir)


FILES = {
  'model.onnx': (b'\x08\x09', 'an ONNX file'),
  'model.tflite': (b'\x1c\0\0\0TFL3', 'a LiteRT'),
  'saved_model.pb': (b'\x08\x01', 'part of a SavedModel'),
  'adapter_config.json': (b'{}', 'merge the two first'),
  'flax_model.msgpack': (b'\x81', 'from_flax=True'),
  'tf_model.h5': (b'\x89HDF', 'from_tf=True'),
  'model.gguf': (b'GGUF', 'a GGUF file'),
  'model.zip': (b'PK\x05\x06', 'an archive: unpack it'),
}


@pytest.mark.parametrize('name', FILES)
def test_other_files_are_named_with_what_to_do(name, model_dir):
  content, message = FILES[name]
  (model_dir / WEIGHTS).unlink()
  (model_dir / name).write_bytes(content)
  for place in (model_dir, model_dir / name):
    with pytest.raises(InputError, match=message) as raised:
      load_pretrained(MODEL, place)
    assert len(str(raised.value)) < 600 and '\n' not in str(raised.value)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'version https://git-lfs.github.com/spec/v1\noid', 'run `git lfs pull`'),
    (b'<!DOCTYPE html><html>', 'a web page'),
    (b'\x1f\x8b\x08', 'an archive'),
    (b'\x89HDF\r\n', 'a Keras file'),
  ],
)
def test_files_are_known_by_how_they_begin(content, message, model_dir):
  for name in (WEIGHTS, 'pytorch_model.bin'):
    (model_dir / WEIGHTS).unlink(missing_ok=True)
    (model_dir / name).write_bytes(content)
    with pytest.raises(InputError, match=f'{name} is .*{message}'):
      load_pretrained(MODEL, model_dir)


def test_the_content_counts_where_the_name_says_otherwise(
  model_dir, saved, tmp_path
):
  (model_dir / WEIGHTS).rename(model_dir / 'pytorch_model.bin')
  assert_same_bits(load_pretrained(MODEL, model_dir).params, saved[1])
  path = tmp_path / 'last.ckpt'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', b'')
  assert foreign.kind(path) == 'bin'
  # In a directory it is none of TensorFlow's.
  assert source.find(tmp_path).format == source.find(path).format == 'bin'


def test_the_workdir_of_a_run(model_dir):
  (model_dir / WEIGHTS).unlink()
  (model_dir / 'model_config.json').write_text('{}')
  with pytest.raises(InputError, match='name its best weights'):
    load_pretrained(MODEL, model_dir)


def test_a_long_list_is_cut(model_dir):
  tensors = dict(safetensors.read(model_dir / WEIGHTS))
  wrong = {f'bert.{name}': value for name, value in tensors.items()}
  safetensors.write(model_dir / WEIGHTS, wrong)
  with pytest.raises(
    InputError, match=r'unused: .*, \.\.\. \(\d+\)\.'
  ) as raised:
    load_pretrained(MODEL, model_dir)
  assert len(str(raised.value)) < 2000


def test_a_state_dict_inside(tmp_path, saved):
  torch = pytest.importorskip('torch')
  directory = shutil.copytree(saved[0], tmp_path / 'm')
  tensors = safetensors.read(directory / WEIGHTS)
  (directory / WEIGHTS).unlink()
  state = {k: torch.from_numpy(v.copy()) for k, v in tensors.items()}
  for name in ('state_dict', 'model'):
    torch.save({name: state, 'epoch': 3}, directory / 'pytorch_model.bin')
    assert_same_bits(load_pretrained(MODEL, directory).params, saved[1])


def _counts(model_dir, count):
  """Damages the header, and all that follows as little as that does."""
  original = (model_dir / WEIGHTS).read_bytes()
  (size,) = struct.unpack('<Q', original[:8])
  header, rest = original[: 8 + size], original[8 + size :]
  path = model_dir / WEIGHTS

  def read(damaged):
    path.write_bytes(damaged.read_bytes() + rest)
    return load_pretrained(MODEL, model_dir)

  return mutants.fuzz(read, header, model_dir / 'header', count)


def test_damaged_headers(model_dir):
  counts = _counts(model_dir, mutants.FEW)
  assert counts['refused'] and sum(counts.values()) == mutants.FEW


@pytest.mark.long
def test_many_damaged_headers(model_dir):
  print(dict(_counts(model_dir, mutants.ALL)))
