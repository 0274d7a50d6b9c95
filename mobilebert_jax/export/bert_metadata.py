"""The table that tells MediaPipe what the tensors of a LiteRT file are.

A flatbuffer of TensorFlow Lite's metadata schema (`metadata_schema.fbs`, file
identifier M001), of which a BERT model needs few tables. Their fields are
listed here in the schema's order: a field's place in the list is its slot.
"""

from collections.abc import Sequence
from typing import Any

from mobilebert_jax.runtime.requirements import load

# What the files are called that are packed behind the model.
VOCABULARY, LABELS = 'vocab.txt', 'labels.txt'
# The first version whose reader knows all that is written here.
_MIN_PARSER_VERSION = '1.5.0'

_MODEL = (
  'name', 'description', 'version', 'subgraph_metadata', 'author', 'license',
  'associated_files', 'min_parser_version',
)  # fmt: skip
_SUBGRAPH = (
  'name', 'description', 'input_tensor_metadata', 'output_tensor_metadata',
  'associated_files', 'input_process_units', 'output_process_units',
)  # fmt: skip
_TENSOR = (
  'name', 'description', 'dimension_names', 'content', 'process_units',
  'stats', 'associated_files',
)  # fmt: skip
# A union is two fields: which table it is, and the table.
_CONTENT = ('content_properties_type', 'content_properties')
_PROCESS_UNIT = ('options_type', 'options')
_BERT_TOKENIZER = ('vocab_file',)
_ASSOCIATED_FILE = ('name', 'description', 'type')
# ContentProperties, ProcessUnitOptions and AssociatedFileType.
_FEATURE_PROPERTIES = 1
_BERT_TOKENIZER_OPTIONS = 4
_TENSOR_AXIS_LABELS, _VOCABULARY = 2, 5

# By name: what clients look for; then what people read.
INPUTS = (
  ('ids', 'Ids of the tokens.'),
  ('mask', '1 for tokens, 0 for padding.'),
  ('segment_ids', '0 for the first text, 1 for the second.'),
)


def write(
  name: str,
  description: str,
  outputs: Sequence[tuple[str, str]],
  *,
  has_labels: bool,
) -> bytes:
  """Returns the table for inputs (ids, mask, segment ids).

  Args:
    name: of the model.
    description: of the model, for people.
    outputs: name and description of each output, in the file's order.
    has_labels: whether the last axis of the outputs has names, in `LABELS`.

  Raises:
    InputError: `flatbuffers` is not installed.
  """
  builder = load('flatbuffers', 'litert').Builder(1024)
  tables = _Tables(builder)
  labels = [(LABELS, _TENSOR_AXIS_LABELS)] if has_labels else []
  subgraph = tables.add(
    _SUBGRAPH,
    input_tensor_metadata=tables.vector(
      [tables.tensor(*tensor) for tensor in INPUTS]
    ),
    output_tensor_metadata=tables.vector(
      [tables.tensor(*tensor, files=labels) for tensor in outputs]
    ),
    input_process_units=tables.vector(
      [
        tables.add(
          _PROCESS_UNIT,
          options_type=_BERT_TOKENIZER_OPTIONS,
          options=tables.add(
            _BERT_TOKENIZER,
            vocab_file=tables.files([(VOCABULARY, _VOCABULARY)]),
          ),
        )
      ]
    ),
  )
  model = tables.add(
    _MODEL,
    name=builder.CreateString(name),
    description=builder.CreateString(description),
    subgraph_metadata=tables.vector([subgraph]),
    min_parser_version=builder.CreateString(_MIN_PARSER_VERSION),
  )
  builder.Finish(model, file_identifier=b'M001')
  return bytes(builder.Output())


class _Tables:
  """Writes tables; what they refer to is written before them."""

  def __init__(self, builder: Any):
    self._builder = builder

  def add(self, fields: Sequence[str], **values: int) -> int:
    """Writes a table; fields that end in 'type' are bytes, others refer."""
    builder = self._builder
    builder.StartObject(len(fields))
    for name, value in values.items():
      if name.endswith('type'):
        builder.PrependUint8Slot(fields.index(name), value, 0)
      else:
        builder.PrependUOffsetTRelativeSlot(fields.index(name), value, 0)
    return builder.EndObject()

  def vector(self, tables: Sequence[int]) -> int:
    self._builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
      self._builder.PrependUOffsetTRelative(table)
    return self._builder.EndVector()

  def files(self, files: Sequence[tuple[str, int]]) -> int:
    """Writes a vector of associated files, each a name and a kind."""
    return self.vector(
      [
        self.add(
          _ASSOCIATED_FILE, name=self._builder.CreateString(name), type=kind
        )
        for name, kind in files
      ]
    )

  def tensor(
    self, name: str, description: str, files: Sequence[tuple[str, int]] = ()
  ) -> int:
    content = self.add(
      _CONTENT,
      content_properties_type=_FEATURE_PROPERTIES,
      content_properties=self.add(()),
    )
    parts = {
      'name': self._builder.CreateString(name),
      'description': self._builder.CreateString(description),
      'content': content,
    }
    if files:
      parts['associated_files'] = self.files(files)
    return self.add(_TENSOR, **parts)
