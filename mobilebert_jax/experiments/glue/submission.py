"""The archive that https://gluebenchmark.com takes."""

import pathlib
import zipfile
from collections.abc import Mapping

from mobilebert_jax.runtime import files

# Official file -> the task whose run writes it.
MEMBERS: Mapping[str, str] = {
  'CoLA.tsv': 'cola',
  'SST-2.tsv': 'sst2',
  'MRPC.tsv': 'mrpc',
  'STS-B.tsv': 'stsb',
  'QQP.tsv': 'qqp',
  'MNLI-m.tsv': 'mnli',
  'MNLI-mm.tsv': 'mnli',
  'QNLI.tsv': 'qnli',
  'RTE.tsv': 'rte',
  'WNLI.tsv': 'wnli',
  'AX.tsv': 'mnli',
}
# The earliest time that the format knows: equal files make equal archives.
_TIME = (1980, 1, 1, 0, 0, 0)


def write(
  path: pathlib.Path, predictions: Mapping[str, pathlib.Path]
) -> tuple[str, ...]:
  """Writes the archive; its members are official files and nothing else.

  Args:
    path: the archive; appears only when it is complete.
    predictions: for each finished task the directory of its predictions.

  Returns:
    The official files that are missing. The server takes only complete
    archives.
  """
  found = {
    name: file
    for name, task in MEMBERS.items()
    if task in predictions and (file := predictions[task] / name).is_file()
  }
  with (
    files.replacing(path) as partial,
    zipfile.ZipFile(partial, 'w') as archive,
  ):
    for name, file in found.items():
      member = zipfile.ZipInfo(name, _TIME)
      member.compress_type = zipfile.ZIP_DEFLATED
      member.external_attr = 0o644 << 16
      archive.writestr(member, file.read_bytes())
  return tuple(name for name in MEMBERS if name not in found)
