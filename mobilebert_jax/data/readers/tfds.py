"""Reading and preparing TFDS data sets; the one module that knows TFDS.

No TensorFlow is needed: data sets are stored as array_record and read as
random-access sources.
"""

import importlib
import os
import pathlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError

_CHUNK = 2000
_VERSION = re.compile(r'\d+\.\d+\.\d+')
# Where what others have prepared in their own format does not lie.
_OTHER_PLACE = '/array_record'
_TIMEOUT_SECONDS = 15
# Builders of the old style are known to TFDS only once their module has been
# imported (with TensorFlow installed, TFDS finds them by itself).
_OLD_STYLE = {
  'conll2003': 'tensorflow_datasets.text.conll2003.conll2003',
  'glue': 'tensorflow_datasets.text.glue',
}
# Servers of data sets whose builders do not say where they download from.
_SERVERS = {'glue/mrpc': 'https://dl.fbaipublicfiles.com'}


def read_split(
  name: str,
  split: str,
  columns: Sequence[str],
  data_dir: str | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Iterator[Mapping[str, Any]]:
  """Reads columns of a split of a prepared data set, in stored order.

  Args:
    name: 'builder' or 'builder/config', for instance 'glue/sst2'.
    split: The split's name.
    columns: Names of the features to read.
    data_dir: Where TFDS keeps its data; None: its own default.
    progress: Called with the rows done and all rows.

  Yields:
    One mapping per row; text is decoded from UTF-8, a sequence is a list, and
    a class is its number (`class_names`).

  Raises:
    InputError: The data set is not prepared or cannot be read without
      TensorFlow, or it has no such split or column.
  """
  builder = find_prepared(name, data_dir)
  if split not in builder.info.splits:
    raise InputError(
      f'TFDS data set {name} in {builder.data_dir} has no split {split!r}; '
      f'it has {", ".join(sorted(builder.info.splits))}.'
    )
  missing = [
    column for column in columns if column not in builder.info.features
  ]
  if missing:
    raise InputError(
      f'TFDS data set {name} in {builder.data_dir} has no feature '
      f'{", ".join(missing)}; it has '
      f'{", ".join(sorted(builder.info.features))}.'
    )
  source = builder.as_data_source(split)
  for start in range(0, len(source), _CHUNK):
    indices = range(start, min(start + _CHUNK, len(source)))
    for row in source.__getitems__(list(indices)):
      yield {column: _plain(row[column]) for column in columns}
    if progress:
      progress(indices.stop, len(source))


def class_names(
  name: str, column: str, data_dir: str | None = None
) -> tuple[str, ...]:
  """Returns the names of the classes of a column, or of its sequences.

  Raises:
    InputError: As `find_prepared`; or the column has no classes.
  """
  builder = find_prepared(name, data_dir)
  features = builder.info.features
  feature: Any = features[column] if column in features else None
  feature = getattr(feature, 'feature', feature)
  if not hasattr(feature, 'names'):
    raise InputError(
      f'TFDS data set {name} in {builder.data_dir} has no classes in '
      f'{column!r}; prepare it anew with a newer tensorflow-datasets.'
    )
  return tuple(feature.names)


def find_prepared(name: str, data_dir: str | None = None) -> Any:
  """Finds the builder of a data set that is ready to be read.

  This looks at the disk only: TFDS itself would try to download, and without
  a network would retry for minutes.

  Raises:
    InputError: It is not there, or in a format that needs TensorFlow; the
      message says what to do.
  """
  place = str(data_dir or default_data_dir())
  local = _on_this_machine(name, place)
  builder = None if local is None else _builder(name, local)
  command = f'python -m mobilebert_jax.data.prepare {name} --data_dir {place}'
  if builder is None or not builder.is_prepared():
    raise InputError(
      f'TFDS data set {name} is not prepared in {place}'
      f'{_other_versions(name, place, builder)}: run '
      f'`{command}` (needs a network), set config.data.path or TFDS_DATA_DIR '
      'to where it is, or use config.data.source=files with the official files '
      'in config.data.path.'
    )
  if builder.info.file_format.value != 'array_record':
    raise InputError(
      f'TFDS data set {name} in {builder.data_dir} is stored as '
      f'{builder.info.file_format.value}, which only TensorFlow reads: run '
      f'`{command}{_OTHER_PLACE}` to prepare it as array_record beside it, and '
      f'set config.data.path={place}{_OTHER_PLACE}.'
    )
  return builder


def is_prepared(name: str, data_dir: str | None = None) -> bool:
  """Returns whether `find_prepared` finds a data set."""
  try:
    find_prepared(name, data_dir)
  except InputError:
    return False
  return True


def prepare(name: str, data_dir: str | None = None) -> pathlib.Path:
  """Downloads a data set and stores it as array_record.

  Args:
    name: 'builder' or 'builder/config'.
    data_dir: Where to keep it; None: TFDS's own default.

  Returns:
    The directory of the prepared data set.

  Raises:
    InputError: There is no such data set, its server cannot be reached, or it
      needs TensorFlow to be prepared (lists of lists, as in RACE).
  """
  import tensorflow_datasets as tfds

  place = str(data_dir or default_data_dir())
  if files.is_remote(place):
    raise InputError(
      f'{place}: a data set is prepared on a local disk; name a local '
      f'--data_dir, and copy it: gcloud storage cp -r DATA_DIR/* {place}.'
    )
  try:
    builder = _builder(name, place, file_format='array_record')
  except ValueError as error:
    if 'File format is already set' not in str(error):
      raise
    raise InputError(
      f'{place} has TFDS data set {name} in another format, which other '
      f'programs may read; use --data_dir {place}{_OTHER_PLACE}.'
    ) from None
  if builder is None:
    raise InputError(
      f'TFDS knows no data set {name!r}; names look like glue/sst2 or squad.'
    )
  if not builder.is_prepared():
    stated = getattr(builder.builder_config, 'data_url', None)
    url = stated or _SERVERS.get(name)
    if url:
      _require_reachable(url)
    try:
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    except ModuleNotFoundError as error:
      if 'tensorflow' not in str(error):
        raise
      raise InputError(
        f'preparing {name} needs TensorFlow (reading it does not): run '
        "pip install 'mobilebert_jax[tf]' and the same command again."
      ) from None
  return pathlib.Path(builder.data_dir)


def _other_versions(name: str, place: str, builder: Any) -> str:
  """Says which other versions of a data set lie there, if any."""
  folder = pathlib.Path(place).expanduser() / name
  if files.is_remote(place) or builder is None or not folder.is_dir():
    return ''
  versions = sorted(
    item.name for item in folder.iterdir() if _VERSION.fullmatch(item.name)
  )
  if not versions:
    return ''
  return (
    f' in version {builder.version}, which this tensorflow-datasets reads '
    f'(there is {", ".join(versions)}, of another one)'
  )


def default_data_dir() -> pathlib.Path:
  """Returns where TFDS looks without a data_dir."""
  return files.path(os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets'))


def _on_this_machine(name: str, place: str) -> str | None:
  """Returns a local data_dir with that data set; None if gs:// lacks it.

  array_record is not known to read gs://.
  """
  if not files.is_remote(place):
    return place
  root = files.path(place)
  if not (root / name).is_dir():
    return None
  return str(local_copies.directory(root, below=name))


def _builder(name: str, data_dir: str, **options: Any) -> Any:
  """Returns TFDS's builder, or None if there is none of that name."""
  import tensorflow_datasets as tfds

  module = _OLD_STYLE.get(name.split('/', maxsplit=1)[0])
  if module:
    importlib.import_module(module)
  try:
    return tfds.builder(name, data_dir=data_dir, try_gcs=False, **options)
  except tfds.core.DatasetNotFoundError:
    return None
  except ValueError as error:
    if 'BuilderConfig' in str(error):
      return None
    raise


def _require_reachable(url: str) -> None:
  request = urllib.request.Request(url, method='HEAD')
  try:
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
      pass
  except urllib.error.HTTPError:
    pass  # The server answers; some refuse HEAD.
  except OSError as error:
    raise InputError(
      f'{url} cannot be reached ({getattr(error, "reason", error)}): prepare '
      'the data set on a machine with a network and copy its data_dir, or use '
      'config.data.source=files.'
    ) from None


def _plain(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, list) or getattr(value, 'ndim', None):
    return [_plain(item) for item in value]
  return value.item() if hasattr(value, 'item') else value
