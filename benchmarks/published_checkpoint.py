"""Masked words of the published checkpoint in every format and precision.

  pip install -e '.[onnx,litert]'
  pip install --no-deps litert-converter
  python benchmarks/published_checkpoint.py --text=wiki.test.raw
    [--calibration=wiki.train.raw] [--model=google/mobilebert-uncased]
    [--formats onnx litert] [--kinds float16 dynamic int8 int8x16 int4x8]
    [--sequences=200] [--length=128]

The text is one paragraph a line, as WikiText-2's raw files have it. Sequences
of `--length` tokens are cut from it, one token in seven is masked (always the
same ones), and a file is right where its best word is the one that was there.
Ranges are measured on 200 paragraphs of `--calibration`; without it, on the end
of the text, of which no sequence is made then.

Needs a network for the hub's model; any directory of a model for masked words
does as well. Prints a Markdown table: accuracy, predictions that agree with the
float model in JAX, bytes, milliseconds for a sequence.

To compare with, of the same checkpoint: Qualcomm's w8a16 export has 0.052 of
masked words where its float model on the same phone has 0.748.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import quantization

import mobilebert_jax as mb
from mobilebert_jax.export import ExportOptions, export
from mobilebert_jax.runtime.errors import InputError

# One token in so many is masked.
EVERY = 7
Batch = Mapping[str, np.ndarray]


def paragraphs(path: pathlib.Path) -> list[str]:
  """The paragraphs of a text, without headings."""
  lines = path.read_text(encoding='utf-8').splitlines()
  found = [line.strip() for line in lines]
  return [line for line in found if len(line) > 80 and not line.startswith('=')]


def sequences(
  texts: Sequence[str], tokenizer: Any, length: int, count: int
) -> tuple[Batch, np.ndarray]:
  """Sequences with masked words, and the words; -1 where nothing is masked."""
  tokens: list[int] = []
  room = length - 2
  for text in texts:
    if len(tokens) >= room * count:
      break
    tokens += tokenizer(text, add_special_tokens=False)['input_ids']
  rows = min(count, len(tokens) // room)
  if not rows:
    raise SystemExit(f'the text has fewer than {room} tokens.')
  ids = np.array(tokens[: rows * room]).reshape(rows, room)
  ends = ((tokenizer.cls_token_id, 0), (tokenizer.sep_token_id, room + 1))
  full = np.zeros((rows, length), np.int32)
  full[:, 1:-1] = ids
  for token, place in ends:
    full[:, place] = token
  rng = np.random.default_rng(0)
  is_masked = rng.random(full.shape) < 1 / EVERY
  is_masked[:, [0, -1]] = False
  labels = np.where(is_masked, full, -1)
  inputs = np.where(is_masked, tokenizer.mask_token_id, full).astype(np.int32)
  batch = {
    'input_ids': inputs,
    'attention_mask': np.ones_like(inputs),
    'token_type_ids': np.zeros_like(inputs),
  }
  return batch, labels


def predict(
  run: Callable[[Batch], Any], batch: Batch, labels: np.ndarray
) -> tuple[np.ndarray, float]:
  """The best word at each masked place, and the seconds for a sequence."""
  found, seconds = [], []
  for i in range(len(labels)):
    row = {name: value[i : i + 1] for name, value in batch.items()}
    start = time.perf_counter()
    logits = np.asarray(run(row)['logits'])
    seconds.append(time.perf_counter() - start)
    found.append(logits[0][labels[i] >= 0].argmax(-1))
  return np.concatenate(found), float(np.median(seconds))


def main():
  """Parses the command line and prints the table."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--model', default='google/mobilebert-uncased')
  parser.add_argument('--text', required=True, type=pathlib.Path)
  parser.add_argument('--calibration', type=pathlib.Path)
  parser.add_argument('--formats', nargs='+', default=[*quantization.READERS])
  parser.add_argument('--kinds', nargs='+', default=quantization.KINDS)
  parser.add_argument('--sequences', type=int, default=200)
  parser.add_argument('--length', type=int, default=128)
  given = parser.parse_args()
  texts = paragraphs(given.text)
  if given.calibration is None:
    texts, measured = (
      texts[: -quantization.CALIBRATION],
      texts[-quantization.CALIBRATION :],
    )
  else:
    measured = paragraphs(given.calibration)[: quantization.CALIBRATION]
  model, params = mb.from_pretrained(mb.MobileBertForMaskedLM, given.model)
  tokenizer = mb.MobileBertTokenizerFast.from_pretrained(given.model)
  batch, labels = sequences(texts, tokenizer, given.length, given.sequences)
  right = labels[labels >= 0]
  print(f'{len(labels)} sequences, {len(right):,} masked words')
  apply = jax.jit(
    lambda p, b: {'logits': model.apply({'params': p}, **b).logits}
  )
  plain, seconds = predict(lambda row: apply(params, row), batch, labels)
  print('| | accuracy | agrees | MB | ms |')
  print('|---|---|---|---|---|')
  accuracy = (plain == right).mean()
  print(f'| JAX, float32 | {accuracy:.4f} | - | - | {seconds * 1e3:.1f} |')
  with tempfile.TemporaryDirectory() as made:
    place = pathlib.Path(made)
    (place / 'texts.txt').write_text('\n'.join(measured), encoding='utf-8')
    for format in given.formats:
      for kind in ('none', *given.kinds):
        needs_texts = kind in ('int8', 'int8x16', 'int4x8')
        options = ExportOptions(
          given.model, format, str(place / 'out'), quantize=kind,
          calibration=str(place / 'texts.txt') if needs_texts else None,
          texts=str(place / 'texts.txt'), check=4, force=True, score=0,
          architecture='MobileBertForMaskedLM',
          lengths=(given.length,) if format == 'litert' else None,
        )  # fmt: skip
        try:
          file = export(options).files[-1]
        except InputError as error:
          print(f'| {format}, {kind} | refused: {error} | | | |')
          continue
        run = quantization.READERS[format](place / 'out' / file.path)
        found, seconds = predict(run, batch, labels)
        print(
          f'| {format}, {kind} | {(found == right).mean():.4f} | '
          f'{(found == plain).mean():.2%} | {file.bytes / 1e6:.1f} | '
          f'{seconds * 1e3:.1f} |',
          flush=True,
        )


if __name__ == '__main__':
  main()
