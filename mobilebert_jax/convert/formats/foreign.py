"""Files that hold a model in a form that is not read here: what they are.

Known by how they begin where that tells, else by their names.
"""

import pathlib
import re
from collections.abc import Iterable
from typing import Literal

_HEAD = 512
_TRANSFORMERS = (
  'open it in transformers 4 with {option}=True and save it there, as '
  'safetensors'
)
_KERAS = f'a Keras file: {_TRANSFORMERS.format(option="from_tf")}'
_FLAX = f'a Flax file: {_TRANSFORMERS.format(option="from_flax")}'
_EXPORT = 'which is made of a model to be served: name that model instead'
_ARCHIVE = 'an archive: unpack it, and name the directory'
ADAPTER = (
  'an adapter, which changes another model: merge the two first (in peft with '
  'merge_and_unload), and name what comes out'
)
# The first bytes, and where they stand -> what the file is.
_BEGINNINGS = (
  (0, b'version https://git-lfs', 'a pointer of Git LFS and not the file '
   'itself: run `git lfs pull`, or download it anew'),
  (0, b'\x89HDF', _KERAS),
  (4, b'TFL3', f'a LiteRT (TensorFlow Lite) file, {_EXPORT}'),
  (0, b'GGUF', f'a GGUF file, {_EXPORT}'),
  (0, b'<!doctype', 'a web page and not the file itself: download it anew'),
  (0, b'<html', 'a web page and not the file itself: download it anew'),
  (0, b'\x1f\x8b', _ARCHIVE),
  (0, b'7z\xbc\xaf', _ARCHIVE),
  (257, b'ustar', _ARCHIVE),
)  # fmt: skip
_NAMES = (
  (r'.*\.onnx', f'an ONNX file, {_EXPORT}'),
  (r'.*\.tflite', f'a LiteRT (TensorFlow Lite) file, {_EXPORT}'),
  (r'saved_model\.pb(txt)?', f'part of a SavedModel, {_EXPORT}'),
  (r'.*\.gguf', f'a GGUF file, {_EXPORT}'),
  (r'.*\.mlmodel|.*\.mlpackage', f'a Core ML file, {_EXPORT}'),
  (r'.*\.h5|.*\.keras', _KERAS),
  (r'.*\.msgpack', _FLAX),
  (r'adapter_(config\.json|model\.(safetensors|bin))', ADAPTER),
  (r'.*\.(zip|tar|tgz|gz|bz2|xz|7z)', _ARCHIVE),
)
# What a program's name in a safetensors file means for its tensors.
WRITERS = {
  'tf': f'written by TensorFlow: {_TRANSFORMERS.format(option="from_tf")}',
  'flax': f'written by Flax: {_TRANSFORMERS.format(option="from_flax")}',
}
# Files to look for where no weights are, on a hub too.
CANDIDATES = (
  'tf_model.h5', 'flax_model.msgpack', 'adapter_config.json',
  'saved_model.pb', 'model.onnx', 'model.tflite',
)  # fmt: skip


def describe(path: pathlib.Path) -> str | None:
  """Returns what a file is, and what to do; None: nothing of the kind.

  Args:
    path: a file, which need not be there.
  """
  beginning = _beginning(path)
  for start, mark, what in _BEGINNINGS:
    if beginning[start : start + len(mark)].lower() == mark.lower():
      return what
  for pattern, what in _NAMES:
    if re.fullmatch(pattern, path.name):
      return what
  return None


def kind(path: pathlib.Path) -> Literal['safetensors', 'bin'] | None:
  """Returns how weights are stored, told by how a file begins; None: unknown.

  Torch's files are zip archives, older ones pickles.
  """
  beginning = _beginning(path)
  if beginning.startswith((b'PK\x03\x04', b'\x80\x02')):
    return 'bin'
  size = int.from_bytes(beginning[:8], 'little')
  if beginning[8:9] == b'{' and size < 2**40:
    return 'safetensors'
  return None


def among(paths: Iterable[pathlib.Path]) -> tuple[pathlib.Path, str] | None:
  """Returns the first file that is known, and what it is; None: there is none.

  Args:
    paths: files, known by their names alone.
  """
  for path in sorted(paths):
    for pattern, what in _NAMES:
      if re.fullmatch(pattern, path.name):
        return path, what
  return None


def is_adapter(names: Iterable[str]) -> bool:
  """Returns whether tensors of these names are those of an adapter."""
  return any(re.search(r'(^|\.)lora_[A-Za-z]', name) for name in names)


def _beginning(path: pathlib.Path) -> bytes:
  try:
    with path.open('rb') as file:
      return file.read(_HEAD)
  except OSError:
    return b''
