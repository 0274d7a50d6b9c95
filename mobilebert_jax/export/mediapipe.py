"""LiteRT files that MediaPipe and the Task Library load as they are.

Such a file says what its tensors are (`bert_metadata`) and carries its
vocabulary and labels, packed behind it as a zip archive. The order matters:
metadata, what makes the file smaller, files. A quantiser does not keep the
archive, and metadata cannot be added to what it writes.

What reads them tokenizes differently here and there: `mediapipe_tokenizer`.
"""

import io
import pathlib
import zipfile
from collections.abc import Sequence

from mobilebert_jax.export import bert_metadata, litert
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.quantization import Quantization
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

# Tokens of a question with its text.
ANSWERING_LENGTH = 384
_BUFFER = 'TFLITE_METADATA'
_DESCRIPTIONS = {
  'probability': 'Probability of each label.',
  'end_logits': 'Score of each token as the end of the answer.',
  'start_logits': 'Score of each token as the start of the answer.',
}


def save_classifier(
  graph: Graph,
  path: pathlib.Path,
  length: int,
  tokenizer: MobileBertTokenizerFast,
  labels: Sequence[str],
  *,
  quantization: str | None = None,
  calibration: Quantization | None = None,
  python: str | None = None,
):
  """Writes a file for MediaPipe's `TextClassifier`.

  Its output is 'probabilities'.

  Args:
    graph: the served model, a MobileBertForSequenceClassification.
    path: where to; the file appears only when it is whole.
    length: of all rows, with [CLS] and [SEP].
    tokenizer: the model's.
    labels: a name for each of the model's labels.
    quantization: see `litert.build`; None: float32.
    calibration: of the kind that has one.
    python: an interpreter that has the packages; None: this one.

  Raises:
    InputError: a model, labels or a tokenizer that MediaPipe cannot use, or a
      package that is not installed.
  """
  if graph.head != 'MobileBertForSequenceClassification':
    raise InputError(
      f"MediaPipe's text classifier cannot use a {graph.head}; it takes a "
      'MobileBertForSequenceClassification.'
    )
  if len(labels) != graph.config.num_labels:
    raise InputError(
      f'{len(labels)} labels for a model of {graph.config.num_labels}.'
    )
  _save(
    graph, path, length, tokenizer, labels, ('probability',), quantization,
    calibration, python,
  )  # fmt: skip


def save_question_answerer(
  graph: Graph,
  path: pathlib.Path,
  tokenizer: MobileBertTokenizerFast,
  *,
  quantization: str | None = None,
  calibration: Quantization | None = None,
  python: str | None = None,
):
  """Writes a file for the Task Library's `BertQuestionAnswerer`.

  Its rows have 384 tokens, for which that library is written. It is also what
  MLPerf Mobile reads, by position and by name (`graph.NAMES['mlperf']`).

  Args:
    graph: the served model, a MobileBertForQuestionAnswering.
    path: where to; the file appears only when it is whole.
    tokenizer: the model's.
    quantization: see `litert.build`; None: float32.
    calibration: of the kind that has one.
    python: an interpreter that has the packages; None: this one.

  Raises:
    InputError: a model or a tokenizer that the Task Library cannot use, or a
      package that is not installed.
  """
  if graph.head != 'MobileBertForQuestionAnswering':
    raise InputError(
      f"the Task Library's question answerer cannot use a {graph.head}; it "
      'takes a MobileBertForQuestionAnswering.'
    )
  outputs = graphs.NAMES['mlperf'].outputs
  assert outputs is not None
  _save(
    graph, path, ANSWERING_LENGTH, tokenizer, None, outputs, quantization,
    calibration, python,
  )  # fmt: skip


def _save(
  graph: Graph,
  path: pathlib.Path,
  length: int,
  tokenizer: MobileBertTokenizerFast,
  labels: Sequence[str] | None,
  outputs: Sequence[str],
  quantization: str | None,
  calibration: Quantization | None,
  python: str | None,
):
  packed = {bert_metadata.VOCABULARY: _vocabulary(tokenizer)}
  if labels is not None:
    packed[bert_metadata.LABELS] = list(labels)
  for name, lines in packed.items():
    for line in lines:
      if not line or '\n' in line or line.endswith('\r'):
        raise InputError(
          f'{line!r} cannot be a line of {name}: MediaPipe leaves out empty '
          'lines.'
        )
  data = litert.build(
    graph,
    [length],
    names=graphs.NAMES['mlperf' if labels is None else 'transformers'],
    probabilities=labels is not None,
    quantization=quantization,
    calibration=calibration,
    attached={
      _BUFFER: bert_metadata.write(
        graph.head,
        'MobileBERT, exported by mobilebert_jax.',
        [(output, _DESCRIPTIONS[output]) for output in outputs],
        has_labels=labels is not None,
      )
    },
    python=python,
  )
  with files.replacing(path) as partial:
    partial.write_bytes(append_files(data, packed))


def _vocabulary(tokenizer: MobileBertTokenizerFast) -> list[str]:
  """Returns the tokens by id, if MediaPipe gives them these ids."""
  wanted = {
    'cls_token': '[CLS]',
    'sep_token': '[SEP]',
    'unk_token': '[UNK]',
  }
  for name, token in wanted.items():
    if getattr(tokenizer, name) != token:
      raise InputError(
        f'{name} is {getattr(tokenizer, name)!r}; MediaPipe knows no other '
        f'than {token}.'
      )
  if tokenizer.pad_token_id != 0:
    raise InputError(
      f'{tokenizer.pad_token} has id {tokenizer.pad_token_id}; MediaPipe pads '
      'with id 0.'
    )
  ids = tokenizer.get_vocab()
  tokens = sorted(ids, key=ids.__getitem__)
  if [ids[token] for token in tokens] != list(range(len(tokens))):
    raise InputError('the vocabulary has ids without a token; leave none out.')
  return tokens


def append_files(data: bytes, packed: dict[str, list[str]]) -> bytes:
  """Returns a file with text files behind it, uncompressed.

  Args:
    data: a file.
    packed: the lines of each text file.
  """
  whole = io.BytesIO(data)
  with zipfile.ZipFile(whole, 'a', zipfile.ZIP_STORED) as archive:
    for name, lines in packed.items():
      # Without a date: the same model is the same file.
      archive.writestr(
        zipfile.ZipInfo(name), ''.join(f'{line}\n' for line in lines)
      )
  return whole.getvalue()
