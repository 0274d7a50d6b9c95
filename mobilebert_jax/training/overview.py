"""Finds what a run says at its start; see `reporting.start_summary`."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from mobilebert_jax import models
from mobilebert_jax.config import taken_layers
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching.features import Features, resolve_buckets
from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.records.stored_features import StoredFeatures
from mobilebert_jax.models.attention import choice
from mobilebert_jax.reporting.start_summary import SplitFacts, StartSummary
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tasks import Task
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.setup import Run

# Rows that are looked at, and texts that are tokenised once more because they
# had been cut. Recorded rows are read for it: so many at a time, and 100,000 of
# 128 tokens in about five seconds of a core.
_ROWS, _LONG_TEXTS = 100_000, 500
_READ_AT_ONCE = 1000
# Special tokens of a pair of texts.
_SPECIAL = 3
_GIBI = 2**30


def summarize(run: Run) -> StartSummary:
  """Looks at a run's data, and says what it is going to do."""
  task = run.task
  names = (task.splits.train, *task.splits.evaluation, *task.splits.test)
  return StartSummary(
    splits=[_look_at(run, run.splits[name]) for name in names],
    max_length=run.config.data.max_length,
    is_cut=task.long_texts == 'cut',
    plan=_plan(run),
    notes=remarks.said(),
  )


@dataclasses.dataclass(frozen=True)
class _Tokens:
  """What is counted in the tokens of some sequences.

  Attributes:
    sizes: tokens of each, special ones included.
    unknown: how many are [UNK].
    text: how many are not special.
    is_blank: for each sequence whether it has no token that is known.
  """

  sizes: Int[np.ndarray, 'N']
  unknown: int
  text: int
  is_blank: Bool[np.ndarray, 'N']

  @classmethod
  def of(
    cls,
    values: Int[np.ndarray, 'tokens'],
    sizes: Int[np.ndarray, 'N'],
    tokenizer: Any,
  ) -> '_Tokens':
    """Counts in sequences that stand end to end."""
    is_unknown = values == tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    is_text = ~np.isin(values, list(special))
    known = np.concatenate([[0], np.cumsum(is_text & ~is_unknown)])
    ends = np.cumsum(sizes)
    is_blank = known[ends] == known[ends - sizes]
    return cls(sizes, int(is_unknown.sum()), int(is_text.sum()), is_blank)

  @classmethod
  def joined(cls, parts: Sequence['_Tokens']) -> '_Tokens':
    """Adds up what was counted in several parts, in their order."""
    return cls(
      np.concatenate([part.sizes for part in parts]),
      sum(part.unknown for part in parts),
      sum(part.text for part in parts),
      np.concatenate([part.is_blank for part in parts]),
    )


def _look_at(run: Run, split: Split) -> SplitFacts:
  task = run.task
  features: Any = split.features
  is_stored = isinstance(features, StoredFeatures)
  seen = min(len(split.examples), _ROWS)
  tokens = _first_tokens(features, run.start.tokenizer)
  is_blank = tokens.is_blank
  if not is_stored and features.choices:
    # A choice that is not there has no tokens either.
    is_blank = is_blank & (tokens.sizes > _SPECIAL)
  lengths, long_share = _lengths(task, split, tokens.sizes, seen, run)
  # Records have no labels to be looked at, and stay where they are.
  some = split.examples if is_stored else split.examples[:seen]
  summary = task.summarize(some)
  is_labelled = summary.unlabelled < summary.rows
  numbers = summary.numbers and dataclasses.astuple(summary.numbers)
  return SplitFacts(
    name=split.name,
    rows=len(split.examples),
    seen=seen,
    unit=summary.unit,
    classes=summary.classes if is_labelled else (),
    counted=summary.counted,
    numbers=numbers or None,
    remarks=summary.remarks,
    lengths=lengths,
    long_share=long_share,
    unknown_share=tokens.unknown / max(1, tokens.text),
    blank=int(np.sum(is_blank)),
  )


def _first_tokens(features: Any, tokenizer: Any) -> _Tokens:
  """Counts in the first `_ROWS` sequences."""
  if not isinstance(features, StoredFeatures):
    ids = features.sequences['input_ids']
    most = min(len(ids), _ROWS)
    return _Tokens.of(
      ids.values[: ids.offsets[most]], ids.lengths()[:most], tokenizer
    )
  count = min(len(features), _ROWS)
  parts = []
  with Work('looking at the records', 'records') as work:
    for start in range(0, count, _READ_AT_ONCE):
      end = min(start + _READ_AT_ONCE, count)
      texts = features.texts(np.arange(start, end))
      sizes = np.array([len(text) for text in texts])
      parts.append(_Tokens.of(np.concatenate(texts), sizes, tokenizer))
      work.is_at(end, count)
  return _Tokens.joined(parts)


def _lengths(
  task: Task,
  split: Split,
  sizes: Int[np.ndarray, 'N'],
  seen: int,
  run: Run,
) -> tuple[Int[np.ndarray, 'M'], float | None]:
  """Returns the lengths before anything is cut, and how many are too long.

  What is shorter than `max_length` has not been cut. Of the others at most
  `_LONG_TEXTS` are tokenised again, and stand for all.
  """
  if task.long_texts == 'joined':
    return sizes, None
  features, most = split.features, run.config.data.max_length
  examples = split.examples[:seen]
  if task.long_texts == 'cut':
    lengths = features.lengths()[:seen].copy()
    doubtful = np.flatnonzero(lengths >= most)
  else:
    # A row is no example there.
    doubtful = np.arange(len(examples))
    lengths = np.zeros(len(examples), np.int64)
  if len(doubtful):
    step = -(-len(doubtful) // _LONG_TEXTS)
    measured = _tokens(
      [task.texts(examples[i]) for i in doubtful[::step]],
      run.start.tokenizer,
      is_choice=features.choices is not None,
    )
    lengths[doubtful] = np.repeat(measured, step)[: len(doubtful)]
  return lengths, float(np.mean(lengths > most)) if len(lengths) else 0.0


def _tokens(
  examples: Sequence[Sequence[str]], tokenizer: Any, *, is_choice: bool
) -> list[int]:
  """Returns the tokens of each example's texts, if nothing is cut."""
  encoded = tokenizer(
    [text for texts in examples for text in texts],
    add_special_tokens=False,
    truncation=False,
    padding=False,
    verbose=False,
  )
  sizes = iter(map(len, encoded['input_ids']))
  counts = []
  for texts in examples:
    first, *others = (next(sizes) for _ in texts)
    # Of several choices one stands beside the question.
    second = max(others, default=0) if is_choice else sum(others)
    counts.append(first + second + 2 + bool(others))
  return counts


def _plan(run: Run) -> list[tuple[str, str]]:
  config, start = run.config, run.start
  parameters = models.count_params(models.abstract_params(start.model))
  epochs = run.total_steps / run.steps_per_epoch
  every = config.eval_every or run.steps_per_epoch
  accumulated = ''
  if config.accumulation_steps > 1:
    accumulated = f' in {config.accumulation_steps} parts'
  train = run.splits[run.task.splits.train].features
  lengths = ', '.join(map(str, compiled_lengths(config, train)))
  evaluated: set[int] = set()
  for split in run.splits.values():
    if split.name != run.task.splits.train:
      evaluated |= {*compiled_lengths(config, split.features)}
  others = ', '.join(map(str, sorted(evaluated)))
  return [
    ('model', f'{run.task.head.__name__}, {parameters:,} parameters, from '
     f'{taken_layers.describe(config.init_layers, config.init)}'),
    ('steps', f'{run.total_steps:,} of {config.batch_size} examples'
     f'{accumulated}, {epochs:.3g} epochs of {run.steps_per_epoch:,}; '
     f'evaluated every {every:,}'),
    ('compiles', f'{config.data.batching} rows of {lengths} tokens; '
     f'{config.eval_batch_size} of {others} for evaluation'),
    ('devices', _devices(run)),
    ('writes', str(run.workdir.path)),
  ]  # fmt: skip


def compiled_lengths(
  config: TrainConfig, features: Features | StoredFeatures
) -> Sequence[int]:
  """Returns the lengths of rows that a split can be padded to."""
  if isinstance(features, StoredFeatures):
    return (features.max_length,)
  if config.data.batching != 'bucketed':
    return (config.data.max_length,)
  return resolve_buckets(features, config.data.buckets)


def _devices(run: Run) -> str:
  devices = jax.devices()
  memory = _memory(devices[0])
  shape = dict(run.mesh.shape)
  axes = ', '.join(f'{name} {size}' for name, size in shape.items())
  return (
    f'{len(devices)} x {devices[0].device_kind}{memory}; mesh {axes}; '
    f'{run.config.dtype}; attention by {_attention(run)}'
  )


def _attention(run: Run) -> str:
  """Says how the training step computes attention."""
  model: Any = run.start.model
  c, config = model.config, run.config
  micro = config.batch_size // config.accumulation_steps
  with jax.set_mesh(run.mesh):
    kind = choice.kind(
      model.compute,
      (micro, config.data.max_length),
      c.num_attention_heads,
      is_dropping=c.attention_probs_dropout_prob > 0,
    )
  return {
    'xla': 'plain operations',
    'fused': 'the fused kernel',
    'cudnn': "cuDNN's kernel",
  }[kind]


def _memory(device: jax.Device) -> str:
  """Says how much memory there is, as far as it is known."""
  stats = device.memory_stats() or {}
  size = stats.get('bytes_limit')
  if size is None and device.platform == 'cpu':
    try:
      size = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, OSError, ValueError):
      return ''
  return f' with {size / _GIBI:.1f} GiB' if size else ''
