r"""`python -m mobilebert_jax.predict TASK --model=DIR_OR_NAME [TEXT ...]`.

Predicts with a fine-tuned model. The inputs are the TEXTs, or the lines of
--file or of standard input; the results are JSON lines, one for each input and
in their order, as soon as they are there. --model is a transformers directory,
the workdir of a run, or a name on the Hugging Face hub.

  python -m mobilebert_jax.predict classify --model=runs/glue_sst2 'A delight.'
  python -m mobilebert_jax.predict classify --model=DIR --file=reviews.csv \
    --column text=review --output=labels.jsonl
  python -m mobilebert_jax.predict fill-mask \
    --model=google/mobilebert-uncased 'Paris is the [MASK] of France.'
  python -m mobilebert_jax.predict answer --model=DIR 'Who?' 'Ada wrote it.'
  python -m mobilebert_jax.predict choose --model=DIR \
    'Where do fish live?' 'in water' 'on trees'
  cat questions.jsonl | python -m mobilebert_jax.predict answer --model=DIR

Exit status: 0; 2 if the input was wrong.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NoReturn

from mobilebert_jax.pipelines import predict_inputs, predict_model
from mobilebert_jax.pipelines.predict_kinds import KINDS, Kind, positive
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

# A file is read so many batches at a time: texts of similar length then share
# a batch.
_POOL = 16
# What some readers take for the end of a line, though it is none.
_SEPARATORS = {ord(char): f'\\u{ord(char):04x}' for char in '\x85\u2028\u2029'}


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are told as all others."""

  def error(self, message: str) -> NoReturn:
    raise InputError(f'{message}; see {self.prog} --help')


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog='python -m mobilebert_jax.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  tasks = parser.add_subparsers(dest='task', metavar='TASK', required=True)
  for name, kind in KINDS.items():
    fields = ', '.join(kind.form.fields)
    own = tasks.add_parser(
      name,
      help=kind.help,
      description=f'{kind.help.capitalize()}. Fields of an input: {fields}; '
      "and 'id', which is passed on.",
      allow_abbrev=False,
    )
    _add_flags(own, kind)
    kind.options(own)
    predict_model.add_flags(own)
  return parser


def _add_flags(parser: argparse.ArgumentParser, kind: Kind):
  add = parser.add_argument
  add('texts', metavar='TEXT', nargs='*', help=kind.texts)
  add(
    '--file',
    help='inputs: .txt (one on each line), .jsonl, .csv or .tsv, also with '
    ".gz; '-' is standard input",
  )
  add(
      '--format', choices=predict_inputs.FORMATS,
      help='what a line of standard input is (default: text where an input is '
      'one text, else jsonl)',
    )  # fmt: skip
  add(
      '--column', metavar='FIELD=NAME', action='append', default=[],
      help='the column that holds a field, if it has another name; repeated '
      'for each of several choices',
    )  # fmt: skip
  add('--output', help='write there instead of to standard output')
  add(
      '--batch_size', '--batch-size', type=positive, default=8,
      help='inputs computed together (default: %(default)s); standard input is '
      'answered as soon as so many lines are there, typed lines one by one',
    )  # fmt: skip


def predict(argv: Sequence[str] | None):
  """Does what the command line says.

  Raises:
    InputError: a wrong flag, model or input; what was predicted before a
      wrong input has been written by then, but not to --output.
  """
  flags = _parser().parse_args(argv)
  kind = KINDS[flags.task]
  items, chunk = _items(kind, flags)
  pipe = predict_model.load(kind.pipeline, flags)
  with _output(flags.output) as write, _progress(flags.output) as is_at:
    done = 0
    for part in _chunks(items, chunk):
      for item, result in zip(part, _run(kind, pipe, part, flags)):
        shown = {k: v for k, v in item.fields.items() if k not in kind.hidden}
        write({**shown, **result})
      done += len(part)
      is_at(done)


def _items(
  kind: Kind, flags: argparse.Namespace
) -> tuple[Iterable[predict_inputs.Item], int]:
  """The inputs, and how many are taken at a time."""
  form, size = kind.form, flags.batch_size
  is_pair = getattr(flags, 'pair', False)
  from_stdin = flags.file == '-' or (flags.file is None and not flags.texts)
  if flags.texts and flags.file is not None:
    raise InputError('give TEXTs or --file, not both')
  for name, is_wrong in (
    ('--format', flags.format and not from_stdin),
    ('--column', flags.column and (from_stdin or flags.texts)),
    ('--pair', is_pair and not flags.texts),
  ):
    if is_wrong:
      raise InputError(
        f'{name} does not go with these inputs; see --help for what it is for'
      )
  if flags.texts:
    return predict_inputs.from_arguments(
      form, flags.texts, is_pair
    ), _POOL * size
  if from_stdin:
    if predict_inputs.is_terminal():
      print('type an input on each line; end with Ctrl-D', file=sys.stderr)
      size = 1
    return predict_inputs.from_stream(form, flags.format), size
  columns = [_column(text) for text in flags.column]
  path = files.path(flags.file)
  return predict_inputs.from_file(form, path, columns), _POOL * size


def _column(text: str) -> tuple[str, str]:
  field, equals, name = text.partition('=')
  if not equals or not name:
    raise InputError(f'--column {text}: write FIELD=NAME')
  return field, name


def _chunks(
  items: Iterable[predict_inputs.Item], size: int
) -> Iterator[list[predict_inputs.Item]]:
  """Groups of inputs; those before a wrong one still come out."""
  iterator = iter(items)
  while True:
    part: list[predict_inputs.Item] = []
    wrong = None
    try:
      for item in itertools.islice(iterator, size):
        part.append(item)
    except InputError as error:
      wrong = error
    if part:
      yield part
    if wrong is not None:
      raise wrong
    if not part:
      return


def _run(
  kind: Kind,
  pipe: Any,
  part: Sequence[predict_inputs.Item],
  flags: argparse.Namespace,
) -> list[dict[str, Any]]:
  from mobilebert_jax.pipelines import ItemError

  try:
    return kind.run(pipe, [item.fields for item in part], flags)
  except ItemError as error:
    place = part[error.index].place
    raise InputError(f'{place}: the input {error.problem}') from None


@contextlib.contextmanager
def _output(name: str | None) -> Iterator[Callable[[dict], None]]:
  """A function that writes a result; a file appears only when complete."""
  if name is None:
    if hasattr(sys.stdout, 'reconfigure'):
      sys.stdout.reconfigure(encoding='utf-8')
    yield lambda result: _write(sys.stdout, result)
    return
  path = files.path(name)
  if path.is_dir() or not (files.is_remote(path) or path.parent.is_dir()):
    raise InputError(f'--output={path} must be a file in an existing directory')
  with (
    files.replacing(path) as partial,
    partial.open('w', encoding='utf-8', newline='\n') as file,
  ):
    yield lambda result: _write(file, result)


def _write(file: IO[str], result: dict[str, Any]):
  line = json.dumps(result, ensure_ascii=False).translate(_SEPARATORS)
  file.write(line + '\n')
  file.flush()


@contextlib.contextmanager
def _progress(output: str | None) -> Iterator[Callable[[int], None]]:
  """A bar, unless it would stand between results on a terminal."""
  from mobilebert_jax.runtime.progress import Work

  if output is None and sys.stdout.isatty():
    yield lambda done: None
    return
  with Work('predicting', 'inputs', terminal_only=True) as work:
    yield work.is_at


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status: 0, or 2 for wrong input."""
  try:
    predict(argv)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:
    # Whoever read the results has enough, as `head` does.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


if __name__ == '__main__':
  sys.exit(main())
