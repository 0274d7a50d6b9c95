"""What all pipelines share: tokenizing, batching and the compiled model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.runtime.compiler_options import compiler_options
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import BatchEncoding, MobileBertTokenizerFast

# Lengths that programs are compiled for, below the model's limit.
_BUCKETS = (16, 32, 64, 96, 128, 192, 256, 384)
EncodedText = Mapping[str, Sequence[int]]


class ItemError(InputError):
  """One of several inputs is wrong.

  Attributes:
    index: which one, from 0.
    problem: what is wrong with it, such as 'has no mask token'.
  """

  def __init__(self, index: int, problem: str):
    super().__init__(f'input {index} {problem}')
    self.index = index
    self.problem = problem


class Pipeline:
  """A model and its tokenizer; subclasses turn logits into answers.

  Attributes:
    model_class: the model that the task needs.
    model: the model.
    params: its parameters.
    tokenizer: the tokenizer.
    batch_size: rows computed together.
    max_length: tokens that both model and tokenizer allow.
  """

  model_class: ClassVar[type[nn.Module]]

  def __init__(
    self,
    model: nn.Module,
    params: Mapping[str, Any],
    tokenizer: MobileBertTokenizerFast,
    batch_size: int = 8,
  ):
    if not isinstance(model, self.model_class):
      raise InputError(
        f'{type(self).__name__} needs a {self.model_class.__name__}, got a '
        f'{type(model).__name__}.'
      )
    self.model = model
    self.params = params
    self.tokenizer = tokenizer
    self.batch_size = batch_size
    self.config: Any = model.config
    self.max_length = min(
      self.config.max_position_embeddings, tokenizer.model_max_length
    )
    if len(tokenizer) > self.config.vocab_size:
      raise InputError(
        f'the tokenizer has {len(tokenizer)} tokens, but the model only '
        f'{self.config.vocab_size}; use its own tokenizer or '
        'resize_token_embeddings().'
      )
    self._buckets = (
      *(b for b in _BUCKETS if b < self.max_length),
      self.max_length,
    )
    self._folded_model = model.with_folded_norms()
    self._folded_params = model.fold_norms(jax.device_put(params))
    self._apply = jax.jit(
      self._forward,
      compiler_options=compiler_options(
        jax.default_backend(), model.compute.dtype
      ),
    )

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the arrays that the answers need, each [B, ...]; is compiled.

    Args:
      outputs: the model's outputs.
      batch: the padded rows.
    """
    raise NotImplementedError

  def shaped(self, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns the model's inputs [B, S, ...] with the axes that it wants."""
    return inputs

  def tokenize(
    self,
    text: Any,
    text_pair: Any = None,
    *,
    truncation: bool | str = False,
    max_length: int | None = None,
    **options: Any,
  ) -> BatchEncoding:
    """Encodes a list of texts; truncation is to the model's length."""
    if truncation and max_length is None:
      max_length = self.max_length
    return self.tokenizer(
      text,
      text_pair,
      truncation=truncation,
      max_length=max_length,
      verbose=False,
      **options,
    )

  def run(self, rows: Sequence[EncodedText]) -> list[dict[str, np.ndarray]]:
    """Computes rows of any lengths.

    Args:
      rows: `input_ids`, `token_type_ids` and what else `select` reads.

    Returns:
      For each row, in order, what `select` picked, still padded.

    Raises:
      ItemError: a row longer than the model takes.
    """
    types = self.config.type_vocab_size
    for i, row in enumerate(rows):
      if max(row['token_type_ids'], default=0) >= types:
        raise ItemError(
          i,
          f'is a pair of texts, but the model has {types} token type '
          '(type_vocab_size)',
        )
      if len(row['input_ids']) > self.max_length:
        raise ItemError(
          i,
          f'has {len(row["input_ids"])} tokens, but the model takes '
          f'{self.max_length}; shorten it, or let it be cut (truncation=True, '
          'on the command line --truncate).',
        )
    results: list[dict[str, np.ndarray]] = [{} for _ in rows]
    for indices, length in self._groups(rows):
      batch = self._batch([rows[i] for i in indices], length)
      picked = jax.device_get(self._apply(self._folded_params, batch))
      for place, i in enumerate(indices):
        results[i] = {key: value[place] for key, value in picked.items()}
    return results

  def _forward(
    self, params: Mapping[str, Any], batch: Mapping[str, jax.Array]
  ) -> Any:
    """Returns word vectors, zero at padding, through the folded model."""
    tree = params.get('mobilebert', params)
    table = tree['embeddings']['word_embeddings']['embedding']
    mask = batch['attention_mask']
    # Zero is what the trigram reads behind the end of an unpadded row.
    words = jnp.where(mask[..., None] > 0, table[batch['input_ids']], 0)
    inputs: dict[str, Any] = {
      'inputs_embeds': words,
      'attention_mask': mask,
      'token_type_ids': batch['token_type_ids'],
    }
    inputs = self.shaped(inputs)
    outputs = self._folded_model.apply({'params': params}, **inputs)
    return self.select(outputs, batch)

  def _groups(
    self, rows: Sequence[EncodedText]
  ) -> Iterator[tuple[list[int], int]]:
    """Yields indices of rows of one batch, and the length to pad them to."""
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
      size = len(row['input_ids'])
      bucket = next(b for b in self._buckets if b >= size)
      by_length.setdefault(bucket, []).append(i)
    for bucket, indices in by_length.items():
      for start in range(0, len(indices), self.batch_size):
        yield indices[start : start + self.batch_size], bucket

  def _batch(
    self, rows: Sequence[EncodedText], length: int
  ) -> dict[str, np.ndarray]:
    """Pads rows to a length, and their number to a power of two."""
    count = _power_of_two(len(rows))
    rows = [*rows, *[rows[0]] * (count - len(rows))]
    sizes = np.array([len(row['input_ids']) for row in rows])
    batch = {
      'attention_mask': (np.arange(length) < sizes[:, None]).astype(np.int32)
    }
    for key in rows[0]:
      # What is not one per token has a width of its own.
      width = (
        length
        if key in ('input_ids', 'token_type_ids')
        else _power_of_two(max(len(row[key]) for row in rows))
      )
      batch[key] = np.zeros((count, width), np.int32)
      for i, row in enumerate(rows):
        batch[key][i, : len(row[key])] = row[key]
    return batch


def _power_of_two(count: int) -> int:
  """Returns the next power of two, so that few shapes are compiled."""
  return 1 << (count - 1).bit_length()


def encoded_rows(encoded: BatchEncoding) -> list[EncodedText]:
  """Returns the rows of a batch, with the names that the model reads."""
  return [
    {'input_ids': ids, 'token_type_ids': types}
    for ids, types in zip(encoded['input_ids'], encoded['token_type_ids'])
  ]


def as_texts(inputs: Any, where: str = 'inputs') -> list[str]:
  """Returns a string or a list of strings as a list.

  Raises:
    InputError: anything else, with the index of the first wrong item.
  """
  if isinstance(inputs, str):
    return [inputs]
  if not isinstance(inputs, (list, tuple)):
    raise InputError(
      f'{where} must be a string or a list of strings, '
      f'got {type(inputs).__name__}.'
    )
  for i, text in enumerate(inputs):
    if not isinstance(text, str):
      raise InputError(f'{where}[{i}] is {text!r}; it must be a string.')
  return list(inputs)


def check_count(name: str, value: Any) -> None:
  """Refuses anything but a positive integer.

  Raises:
    InputError: another value.
  """
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise InputError(f'{name} must be a positive integer, got {value!r}.')
