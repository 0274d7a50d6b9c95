r"""Predicts with a fine-tuned model.

The inputs are the TEXTs, or the lines of --file or of standard input; the
results are JSON lines, one for each input and in their order, as soon as they
are there. --model is a transformers directory, the workdir of a run, or a name
on the Hugging Face hub.

  python -m mobilebert_jax.predict classify --model=runs/glue_sst2 'A delight.'
  python -m mobilebert_jax.predict classify --model=DIR --file=reviews.csv \
    --column=text=review --output=labels.jsonl
  python -m mobilebert_jax.predict answer --model=DIR 'Who?' 'Ada wrote it.'
  python -m mobilebert_jax.predict choose --model=DIR \
    'Where do fish live?' 'in water' 'on trees'
  cat questions.jsonl | python -m mobilebert_jax.predict answer --model=DIR
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from mobilebert_jax.config import fields
from mobilebert_jax.config.command_line import Command, Flag, Given
from mobilebert_jax.pipelines import predict_inputs, predict_kinds
from mobilebert_jax.pipelines.predict_kinds import KINDS, Kind
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError

# A file is read so many batches at a time: texts of similar length then share
# a batch.
_POOL = 16
# What some readers take for the end of a line, though it is none.
_SEPARATORS = {ord(char): f'\\u{ord(char):04x}' for char in '\x85\u2028\u2029'}
_NAME = 'python -m mobilebert_jax.predict'


def _command(name: str, kind: Kind) -> Command:
  """The command of one kind of predictions."""
  known = ', '.join(kind.form.fields)
  return Command(
    f'{_NAME} {name}',
    f'{kind.help.capitalize()}.\n\nFields of an input: {known}; and '
    "'id', which is passed on.",
    (
      Flag(
        'texts',
        kind.texts,
        otherwise='the lines of standard input',
        value='TEXT',
        is_many=True,
        is_positional=True,
      ),
      *predict_kinds.FLAGS,
      *kind.options,
      Flag(
        'file',
        'inputs: .txt (one on each line), .jsonl, .csv or .tsv, also with '
        ".gz; '-' is standard input",
        otherwise='the TEXTs',
      ),
      Flag(
        'format',
        'what a line of standard input is',
        fields.one_of(predict_inputs.FORMATS),
        otherwise='text where an input is one text, else jsonl',
      ),
      Flag(
        'column',
        'the column that holds a field, if it has another name; repeated for '
        'each of several choices',
        otherwise="the field's name",
        value='FIELD=NAME',
        is_repeated=True,
      ),
      Flag(
        'output', 'where to write', otherwise='standard output', value='FILE'
      ),
      Flag(
        'batch_size',
        'inputs computed together; standard input is answered as soon as so '
        'many lines are there, typed lines one by one',
        int,
        8,
        value='N',
        limits={'at_least': 1},
      ),
    ),
  )


COMMAND = Command(
  _NAME,
  __doc__,
  commands={name: _command(name, kind) for name, kind in KINDS.items()},
)


def predict(flags: Given):
  """Does what the command line says.

  Raises:
    InputError: a wrong flag, model or input; what was predicted before a
      wrong input has been written by then, but not to --output.
  """
  assert flags.command is not None
  kind = KINDS[flags.command]
  items, chunk = _items(kind, flags)
  pipe = predict_kinds.load(kind.pipeline, flags)
  with _output(flags['output']) as write, _progress(flags['output']) as is_at:
    done = 0
    for part in _chunks(items, chunk):
      for item, result in zip(part, _run(kind, pipe, part, flags)):
        shown = {k: v for k, v in item.fields.items() if k not in kind.hidden}
        write({**shown, **result})
      done += len(part)
      is_at(done)


def _items(
  kind: Kind, flags: Given
) -> tuple[Iterable[predict_inputs.Item], int]:
  """The inputs, and how many are taken at a time."""
  form, size = kind.form, flags['batch_size']
  texts, file = flags['texts'], flags['file']
  is_pair = flags.values.get('pair', False)
  from_stdin = file == '-' or (file is None and not texts)
  if texts and file is not None:
    raise InputError('give TEXTs or --file, not both.')
  for name, is_wrong in (
    ('--format', flags['format'] and not from_stdin),
    ('--column', flags['column'] and (from_stdin or texts)),
    ('--pair', is_pair and not texts),
  ):
    if is_wrong:
      raise InputError(
        f'{name} does not go with these inputs; see --help for what it is for.'
      )
  if texts:
    return predict_inputs.from_arguments(form, texts, is_pair), _POOL * size
  if from_stdin:
    if predict_inputs.is_terminal():
      print('type an input on each line; end with Ctrl-D', file=sys.stderr)
      size = 1
    return predict_inputs.from_stream(form, flags['format']), size
  columns = [_column(text) for text in flags['column']]
  path = files.path(file)
  return predict_inputs.from_file(form, path, columns), _POOL * size


def _column(text: str) -> tuple[str, str]:
  field, equals, name = text.partition('=')
  if not equals or not name:
    raise InputError(f'--column {text}: write FIELD=NAME.')
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
  flags: Given,
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
    raise InputError(
      f'--output={path} must be a file in an existing directory.'
    )
  with (
    files.replacing(path) as partial,
    partial.open('w', encoding='utf-8', newline='\n') as file,
  ):
    yield lambda result: _write(file, result)


def _write(file: IO[str], result: dict[str, Any]):
  line = files.json_text(result, ensure_ascii=False).translate(_SEPARATORS)
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


def main(argv: Sequence[str]):
  """Parses the command line and predicts."""
  given = COMMAND.parse(argv[1:])
  try:
    predict(given)
  except BrokenPipeError:
    # Whoever read the results has enough, as `head` does.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
