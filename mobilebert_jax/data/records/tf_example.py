"""tf.Example without TensorFlow: the one module that knows protobuf.

The messages are those of TensorFlow's example.proto and feature.proto (a map
from names to lists of int64, float or bytes), declared here with one liberty:
a list of numbers is a field of bytes. The wire format is the same, since a
packed repeated field is the bytes of its values, and NumPy then decodes a
whole batch at once. Element by element protobuf's own lists take ten times as
long.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# A varint has seven bits in each byte and ten bytes at most.
_LONGEST = 10


class ExampleError(ValueError):
  """A record is no tf.Example, or not with these features."""


def encode(features: Mapping[str, np.ndarray]) -> bytes:
  """Serialises a tf.Example; equal features give equal bytes.

  Args:
    features: Arrays [n] by name; integers become int64, floats float32.
  """
  example = _example_class()()
  for name, values in features.items():
    feature = example.features.feature[name]
    if np.issubdtype(values.dtype, np.floating):
      feature.float_list.value = values.astype('<f4').tobytes()
    else:
      feature.int64_list.value = _varints(values)
  return example.SerializeToString(deterministic=True)


class Examples:
  """The features of a batch of serialised tf.Examples."""

  def __init__(self, records: Sequence[bytes]):
    """Parses the bytes of each example.

    Raises:
      ExampleError: A record is no tf.Example; `args[1]` is its index.
    """
    parse = _example_class().FromString
    self._features: list[Any] = []
    for index, record in enumerate(records):
      try:
        self._features.append(parse(record).features.feature)
      except Exception as error:
        # protobuf's DecodeError is another class in each of its versions.
        raise ExampleError(f'is no tf.Example ({error})', index) from None

  def names(self, index: int = 0) -> list[str]:
    """Returns the names of one example's features, sorted."""
    return sorted(self._features[index])

  def integers(
    self, name: str, count: int | None = None
  ) -> Int[np.ndarray, 'B n']:
    """Decodes an int64 feature of every example.

    Args:
      name: The feature.
      count: How many values each example has; None: as many as the first.

    Raises:
      ExampleError: An example has no such feature, or another number of
        values; `args[1]` is its index.
    """
    parts = [self._value(i, name, 'int64_list') for i in range(len(self))]
    payload = np.frombuffer(b''.join(parts), np.uint8)
    is_last = payload < 128
    ends = np.cumsum([len(part) for part in parts])
    totals = np.concatenate([[0], np.cumsum(is_last)])[ends]
    self._check(name, np.diff(totals, prepend=0), count)
    return _decode(payload, np.flatnonzero(is_last)).reshape(len(self), -1)

  def floats(
    self, name: str, count: int | None = None
  ) -> Float[np.ndarray, 'B n']:
    """Decodes a float32 feature of every example; arguments as `integers`."""
    parts = [self._value(i, name, 'float_list') for i in range(len(self))]
    self._check(name, np.array([len(part) / 4 for part in parts]), count)
    values = np.frombuffer(b''.join(parts), '<f4').astype(np.float32)
    return values.reshape(len(self), -1)

  def __len__(self) -> int:
    return len(self._features)

  def _value(self, index: int, name: str, kind: str) -> bytes:
    features = self._features[index]
    # Looking it up would add it.
    if name not in features:
      result = ', '.join(sorted(features)) or 'none'
      raise ExampleError(f'has no feature {name!r}; it has {result}', index)
    feature = features[name]
    if feature.WhichOneof('kind') != kind:
      raise ExampleError(
        f'has a feature {name!r} that is no {kind} but '
        f'{feature.WhichOneof("kind") or "empty"}',
        index,
      )
    return getattr(feature, kind).value

  def _check(self, name: str, counts: np.ndarray, count: int | None):
    wanted = counts[0] if count is None else count
    wrong = np.flatnonzero(counts != wanted)
    if len(wrong):
      raise ExampleError(
        f'has {counts[wrong[0]]:g} values of {name!r} instead of {wanted:g}',
        int(wrong[0]),
      )


def _varints(values: Int[np.ndarray, 'n']) -> bytes:
  """Encodes little-endian base-128 numbers, as protobuf packs them."""
  rest = values.astype(np.int64).view(np.uint64)
  width = max(1, -(-int(rest.max(initial=0)).bit_length() // 7))
  if width == 1:
    return rest.astype(np.uint8).tobytes()
  digits = np.empty((len(rest), width), np.uint8)
  lengths = np.ones(len(rest), np.int64)
  for place in range(width):
    digits[:, place] = rest & np.uint64(127)
    rest = rest >> np.uint64(7)
    goes_on = rest != 0
    lengths += goes_on
    digits[:, place] |= goes_on.astype(np.uint8) << 7
  return digits[np.arange(width) < lengths[:, None]].tobytes()


def _decode(
  payload: np.ndarray, ends: Int[np.ndarray, 'n']
) -> Int[np.ndarray, 'n']:
  """Decodes the numbers whose last bytes are at `ends`."""
  if len(ends) == len(payload):
    # One byte each: masks, types of tokens, labels.
    return payload.astype(np.int64)
  if not len(ends):
    # Bytes of a number that does not end.
    return np.zeros(0, np.int64)
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends - starts + 1
  digits = payload & np.uint8(127)
  values = digits[starts].astype(np.uint64)
  for place in range(1, min(int(lengths.max()), _LONGEST)):
    # Those that go on; few have many bytes.
    at = np.flatnonzero(lengths > place)
    digit = digits[starts[at] + place].astype(np.uint64)
    values[at] |= digit << np.uint64(7 * place)
  return values.view(np.int64)


@functools.cache
def _example_class() -> Any:
  """Makes the message class tensorflow.Example, in a pool of its own."""
  from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
  )

  kinds = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name='mobilebert_jax/example.proto', package='tensorflow', syntax='proto3'
  )

  def message(name: str, parent: Any = file.message_type, **fields: Any) -> Any:
    made = parent.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
      added = made.field.add(
        name=field, number=number, label=kinds.LABEL_OPTIONAL
      )
      added.type = kinds.TYPE_MESSAGE if isinstance(kind, str) else kind
      if isinstance(kind, str):
        added.type_name = f'.tensorflow.{kind}'
    return made

  bytes_list = message('BytesList', value=kinds.TYPE_BYTES)
  bytes_list.field[0].label = kinds.LABEL_REPEATED
  message('FloatList', value=kinds.TYPE_BYTES)
  message('Int64List', value=kinds.TYPE_BYTES)
  feature = message(
    'Feature', bytes_list='BytesList', float_list='FloatList',
    int64_list='Int64List',
  )  # fmt: skip
  feature.oneof_decl.add(name='kind')
  for field in feature.field:
    field.oneof_index = 0
  features = message('Features', feature='Features.FeatureEntry')
  features.field[0].label = kinds.LABEL_REPEATED
  entry = message(
    'FeatureEntry', features.nested_type, key=kinds.TYPE_STRING, value='Feature'
  )
  entry.options.map_entry = True
  message('Example', features='Features')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName('tensorflow.Example')
  )
