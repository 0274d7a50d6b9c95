"""One export from beginning to end: load, fold, write, check, publish."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import save
from mobilebert_jax.export import (
  check,
  judge,
  mediapipe,
  mediapipe_tokenizer,
  serving,
)
from mobilebert_jax.export import source as sources
from mobilebert_jax.export import texts as real_texts
from mobilebert_jax.export.check import Comparison
from mobilebert_jax.export.formats import FORMATS, Format, Job, Written
from mobilebert_jax.export.judge import Data, Judgement
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.export.source import Source
from mobilebert_jax.export.texts import Texts
from mobilebert_jax.inference import costs, folding
from mobilebert_jax.inference.costs import Cost
from mobilebert_jax.reporting import model_card
from mobilebert_jax.runtime import files, hub
from mobilebert_jax.runtime.errors import InputError

# Texts whose means are subtracted while folding: more change no digit.
_MEASURED = 32
# A float file that is farther from the model than this is wrong.
_TOLERANCE = 1e-3
_ANSWERS = 'MobileBertForQuestionAnswering'


class File(NamedTuple):
  """A file that was written and checked.

  Attributes:
    path: relative to the exported directory.
    bytes: its size.
    comparison: with the model.
    quantization: 'none', or as what its values are stored (`ExportOptions`).
    judgement: its scores beside the model's; None: it was not scored.
    costs: the tensors whose rounding to integers costs most.
  """

  path: str
  bytes: int
  comparison: Comparison
  quantization: str
  judgement: Judgement | None = None
  costs: tuple[Cost, ...] = ()

  def describe(self) -> list[str]:
    """Returns what is known of it, in lines."""
    result = self.comparison
    lines = [
      f'{self.path}: {self.bytes / 1e6:.1f} MB',
      f'  largest difference from float64: {_shown(result.file)}; the model in '
      f'float32: {_shown(result.model)}',
    ]
    if result.decided:
      lines.append(
        f'  decisions that differ: {result.differ:,} of {result.decided:,}, in '
        f'{result.texts:,} texts'
      )
    if self.judgement is not None:
      lines.append(f'  {self.judgement.describe()}')
    if self.costs:
      worst = ', '.join(f'{name} {error:.2%}' for name, error in self.costs)
      lines.append(f'  rounded alone, these cost most of the logits: {worst}')
    lines.append(
      f'  speed: {result.seconds * 1e3:.1f} ms for a text of {result.length} '
      f'tokens (JAX, here: {result.model_seconds * 1e3:.1f} ms)'
    )
    return lines


def _shown(distance: check.Distance) -> str:
  """How far outputs are from float64, by what the model is used for."""
  if distance.probabilities is not None:
    return f'{distance.probabilities:.1e} in probabilities'
  return f'{distance.logits:.1e} of the largest output'


class Report(NamedTuple):
  """What an export wrote.

  Attributes:
    directory: where.
    files: the files, checked.
    texts: what they were checked with, such as "the run's validation split".
    runtime: what ran them, with its version.
    usage: lines of Python that load the first file and call it.
    url: where it was uploaded to; None: nowhere.
    seconds: from beginning to end.
  """

  directory: pathlib.Path
  files: tuple[File, ...]
  texts: str
  runtime: str
  usage: str
  url: str | None
  seconds: float


def export(
  options: ExportOptions, say: Callable[[str], None] = lambda line: None
) -> Report:
  """Writes a model for other programs, and proves it by its own runtime.

  Nothing is at `options.output` before all is written and checked.

  Args:
    options: what, as what, where to.
    say: is told each step in a line.

  Returns:
    What was written, and how far it is from the model.

  Raises:
    InputError: whatever is wrong with the options or the model, a package that
      is missing, or a file that its runtime does not compute as the model does.
  """
  begun = time.monotonic()
  chosen = FORMATS[options.format]
  chosen.check_packages(options)
  if options.push_to_hub is not None:
    hub.check_upload(options.push_to_hub, options.hub.get('token'))
  output = files.path(options.output)
  _check_output(output, options.force)
  say(f'reading {options.model}')
  source = sources.load(options)
  options.check_class(source.head)
  lengths = _lengths(options, source)
  parameters = models.count_params(source.params)
  say(f'{source.head}: {parameters:,} parameters')
  wanted = _MEASURED + options.check
  longest = lengths[-1] if options.format == 'litert' else source.max_length
  # Whoever reads the file cuts texts as training did, or as the file must.
  source.tokenizer.model_max_length = longest
  texts, note = real_texts.find(source, options.texts, wanted, longest)
  for sentence in (note, *_hints(options, source, texts)):
    if sentence is not None:
      say(f'note: {sentence}')
  measured, checked = _parts(len(texts), options.check)
  if note is None:
    batches = list(texts.batches(measured, lengths))
  else:
    batches = folding.default_batches(source.head, source.config)
  folded_with = sum(len(batch['input_ids']) for batch in batches)
  say(
    f'{len(checked)} texts to check with and {folded_with} to fold with, of '
    f'up to {longest} tokens: {texts.origin}'
  )
  served = serving.prepare(options, source, batches, lengths, say)
  source = served.source
  with save.atomic_directory(output) as directory:
    _write_beside(source, directory)
    say(f'writing {options.format}')
    job = Job(
      served.graph, source, options, lengths, texts.features.choices,
      served.quantization,
    )  # fmt: skip
    written = chosen.write(job, directory)
    for note in (note for file in written for note in file.notes):
      say(f'note: {note}')
    say(f'checking in {chosen.version()}')
    model = check.compiled(source)
    references = check.references(
      source,
      model,
      serving.fold(options, source, None, dtype='float64'),
      texts.batches(checked, lengths),
    )
    data = _examples(options, source, longest, say)
    judged = model
    if served.learnt is not None:
      # What the run scored is what the file has to score.
      judged = check.compiled(dataclasses.replace(source, model=served.learnt))
    checked_files = tuple(
      _check(source, model, judged, file, directory, references, data)
      for file in written
    )
    if served.calibration and served.quantization is not None:
      say('finding the tensors that cost most')
      worst = costs.costs(
        served.graph, served.quantization, served.calibration[0]
      )[:5]
      checked_files = tuple(
        file._replace(costs=worst if file.quantization != 'none' else ())
        for file in checked_files
      )
    usage = chosen.usage.format(path=written[0].path)
    _write_card(source, checked_files, texts, chosen, usage, directory)
  url = None
  if options.push_to_hub is not None:
    say(f'uploading to {options.push_to_hub}')
    url = _upload(output, options)
  return Report(
    output, checked_files, texts.origin, chosen.version(), usage, url,
    time.monotonic() - begun,
  )  # fmt: skip


def _check_output(output: pathlib.Path, force: bool):
  """Refuses an output that holds something."""
  if output.is_dir() and any(output.iterdir()) and not force:
    raise InputError(
      f'--output={output} is not empty; pass --force to replace files in it.'
    )


def _lengths(options: ExportOptions, source: Source) -> tuple[int, ...]:
  """The lengths that texts are padded to, ascending."""
  positions = source.config.max_position_embeddings
  if options.format != 'litert':
    longest = source.max_length
    return (*(n for n in real_texts.LENGTHS if n < longest), longest)
  if options.lengths is not None:
    longest = max(options.lengths)
    if longest > positions:
      raise InputError(
        f'--lengths={longest} is more than the {positions} positions of '
        f'{options.model}.'
      )
    return tuple(sorted(options.lengths))
  if source.head == _ANSWERS and (
    source.run is None or options.names == 'mlperf'
  ):
    return (min(mediapipe.ANSWERING_LENGTH, positions),)
  return (source.max_length,)


def _hints(
  options: ExportOptions, source: Source, texts: Texts
) -> Iterator[str]:
  """Sentences on what will be different where the file is used."""
  if source.labels and source.labels[0] == 'LABEL_0':
    yield (
      'the labels are called LABEL_0 and so on; name them by id2label in the '
      "model's config.json."
    )
  if options.format != 'litert' or not texts.strings:
    return
  if source.head == _ANSWERS and options.names != 'mlperf':
    yield (
      'for the Task Library and MLPerf Mobile, add --names=mlperf to the '
      'command.'
    )
  if source.labels and any(len(text) > 1 for text in texts.strings):
    yield (
      'the model reads pairs of texts, and a MediaPipe TextClassifier gives it '
      'one.'
    )
  strings = [part for text in texts.strings for part in text]
  different = sum(
    mediapipe_tokenizer.differs(source.tokenizer, text) for text in strings
  )
  yield (
    "MediaPipe's tokenizer, which keeps accents and lower-cases A to Z alone, "
    f'reads {different / len(strings):.1%} of the texts otherwise than '
    "the model's."
  )


def _examples(
  options: ExportOptions,
  source: Source,
  longest: int,
  say: Callable[[str], None],
) -> Data | None:
  """What quantised files are scored on."""
  if options.quantize == 'none' or not options.score:
    return None
  data = judge.read(source, options.score, longest)
  if isinstance(data, str):
    say(f'note: files are not scored, for {data}.')
    return None
  return data


def _parts(count: int, wanted: int) -> tuple[range, range]:
  """Which texts are folded with, and which are checked with: others, if any."""
  measured = range(min(_MEASURED, max(1, count // 2)))
  checked = range(len(measured) if count > 1 else 0, count)
  return measured, checked[:wanted]


def _write_beside(source: Source, directory: pathlib.Path):
  """Writes what is needed to use the file: config and tokenizer."""
  model_json.save_config(source.config, directory, architectures=(source.head,))
  source.tokenizer.save_pretrained(directory)


def _write_card(
  source: Source,
  checked: tuple[File, ...],
  texts: Texts,
  chosen: Format,
  usage: str,
  directory: pathlib.Path,
):
  """Writes the model's card with a section on the files."""
  text = source.card
  if text is None:
    summary = model_card.summary_of(
      source.head, source.config, source.tokenizer
    )
    text = model_card.card(summary)
  use = ['```python', *usage.splitlines(), '```']
  checked_by = (
    f'Checked in {chosen.version()} on {checked[0].comparison.texts} texts '
    f'({texts.origin}).'
  )
  lines = [
    checked_by,
    '',
    *(line for file in checked for line in _in_card(file)),
  ]
  text = model_card.with_section(text, 'Use', use)
  text = model_card.with_section(text, 'Files', lines)
  files.write_text(directory / model_card.NAME, text)


def _in_card(file: File) -> list[str]:
  """What a card says of a file: nothing that another day changes."""
  head, *others = file.describe()
  return [f'- `{file.path}`{head.removeprefix(file.path)}', *(
    f'  - {line.strip()}' for line in others if 'speed' not in line
  )]  # fmt: skip


def _upload(output: pathlib.Path, options: ExportOptions) -> str:
  assert options.push_to_hub is not None
  try:
    return hub.upload(
      output,
      options.push_to_hub,
      private=options.private or None,
      token=options.hub.get('token'),
      commit_message=f'{options.format}, exported by mobilebert_jax',
    )
  except InputError as error:
    raise InputError(
      f'{error} The files are in {output}; `hf upload` sends them, too.'
    ) from None


def _check(
  source: Source,
  model: check.Runtime,
  judged: check.Runtime,
  file: Written,
  directory: pathlib.Path,
  references: list[check.Reference],
  data: Data | None,
) -> File:
  """Runs a file; a wrong one ends the export."""
  runtime = file.open()
  comparison = check.compare(source, model, runtime, references)
  is_quantized = file.quantization != 'none'
  allowed = sys.float_info.max if is_quantized else _TOLERANCE
  if comparison.file.logits > allowed:
    raise InputError(
      f'{file.path} was not written: its outputs differ from those in float64 '
      f'by {comparison.file.logits:.1e} of the largest.'
    )
  path = directory / file.path
  sizes = [
    part.stat().st_size
    for part in ([path] if path.is_file() else path.rglob('*'))
    if part.is_file()
  ]
  judgement = None
  if is_quantized and data is not None:
    judgement = judge.judge(source, judged, runtime, data)
  return File(file.path, sum(sizes), comparison, file.quantization, judgement)
