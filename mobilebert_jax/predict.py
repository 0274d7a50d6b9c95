r"""Predicts with a fine-tuned model.

The inputs are the TEXTs, or the lines of --file or of standard input; the
results are JSON lines, one for each input and in their order, as soon as they
are there. An input that cannot be answered has {"error": "..."} in its place,
and the exit status is 2. --model is a transformers directory, the workdir of a
run, or a name on the Hugging Face hub; a directory tells the command itself.

  python -m mobilebert_jax.predict --model=runs/glue_sst2 'A delight.'
  python -m mobilebert_jax.predict classify --model=DIR --file=reviews.csv \
    --column=text=review --output=labels.jsonl
  python -m mobilebert_jax.predict answer --model=DIR 'Who?' 'Ada wrote it.'
  python -m mobilebert_jax.predict choose --model=DIR \
    'Where do fish live?' 'in water' 'on trees'
  cat questions.jsonl | python -m mobilebert_jax.predict answer --model=DIR
"""

import contextlib
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from mobilebert_jax.config import fields
from mobilebert_jax.config.command_line import HELP, Command, Flag, Given
from mobilebert_jax.pipelines import predict_inputs, predict_kinds
from mobilebert_jax.pipelines.predict_kinds import KINDS, Kind
from mobilebert_jax.runtime import compilation_cache, exit_status, files
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
        'inputs: .txt (one on each line), .jsonl, .csv or .tsv, .json (objects '
        "or SQuAD's form), .conll, also compressed, or .parquet; '-' is "
        'standard input',
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
        otherwise="that of the model's run, or the field's name",
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
    InputError: a wrong flag or model; a file that cannot be read; or, when
      all others have been answered, inputs that could not be.
  """
  assert flags.command is not None
  kind = KINDS[flags.command]
  usual = predict_kinds.columns_of(kind, flags['model'])
  items, chunk = _items(kind, flags, usual)
  pipe = predict_kinds.load(kind.pipeline, flags)
  problems: list[str] = []
  with (
    compilation_cache.used(compilation_cache.AUTO),
    _output(flags['output']) as write,
    _progress(flags['output']) as is_at,
  ):
    done = 0
    for part in _chunks(items, chunk):
      for item, result in _answered(kind, pipe, part, flags):
        if item.problem is not None:
          problems.append(item.problem)
          kept = {k: v for k, v in item.fields.items() if k == 'id'}
          write({**kept, 'error': item.problem})
          continue
        shown = {k: v for k, v in item.fields.items() if k not in kind.hidden}
        write({**shown, **result})
      done += len(part)
      is_at(done)
  if problems:
    raise InputError(_unanswered(problems, done))


def _unanswered(problems: Sequence[str], total: int) -> str:
  """Returns what to say of inputs that have no answer."""
  if total == 1:
    return problems[0]
  if len(problems) == 1:
    return f'{problems[0]} All other inputs are answered.'
  return (
    f'{problems[0]} {len(problems):,} of {total:,} inputs like this have an '
    '"error" for an answer; the others are answered.'
  )


def _items(
  kind: Kind, flags: Given, usual: Mapping[str, Sequence[str]]
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
  inputs = predict_inputs.from_file(form, path, columns, usual)
  return inputs, _POOL * size


def _column(text: str) -> tuple[str, str]:
  field, equals, name = text.partition('=')
  if not equals or not name:
    raise InputError(f'--column {text}: write FIELD=NAME.')
  return field, name


def _chunks(
  items: Iterable[predict_inputs.Item], size: int
) -> Iterator[list[predict_inputs.Item]]:
  """Groups of inputs; those before the end of what can be read come out."""
  iterator = iter(items)
  is_first = True
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
      if is_first and not part:
        raise wrong
      yield [predict_inputs.Item('', {}, f'{wrong} Nothing behind it is read.')]
      return
    if not part:
      return
    is_first = False


def _answered(
  kind: Kind,
  pipe: Any,
  part: Sequence[predict_inputs.Item],
  flags: Given,
) -> Iterator[tuple[predict_inputs.Item, dict[str, Any]]]:
  """Yields each input with its result; {} for one that has a problem."""
  part = list(part)
  results: dict[int, dict[str, Any]] = {}
  waiting = [i for i, item in enumerate(part) if item.problem is None]
  while waiting:
    index, problem = _answer(kind, pipe, part, waiting, results, flags)
    if index is None:
      break
    item = part[index]
    text = f'{item.place}: the input {problem}'
    part[index] = dataclasses.replace(item, problem=text)
    waiting.remove(index)
  for index, item in enumerate(part):
    yield item, results.get(index, {})


def _answer(
  kind: Kind,
  pipe: Any,
  part: Sequence[predict_inputs.Item],
  waiting: Sequence[int],
  results: dict[int, dict[str, Any]],
  flags: Given,
) -> tuple[int | None, str]:
  """Answers inputs together; returns one that cannot be, and why."""
  from mobilebert_jax.pipelines import ItemError

  inputs = [part[i].fields for i in waiting]
  try:
    answers = kind.run(pipe, inputs, flags)
  except ItemError as error:
    return waiting[error.index], error.problem
  except InputError as error:
    if len(waiting) == 1:
      return waiting[0], f'cannot be answered: {error}'
    # One of them is the reason: each alone.
    for index in waiting:
      if index not in results:
        wrong, problem = _answer(kind, pipe, part, [index], results, flags)
        if wrong is not None:
          return wrong, problem
    return None, ''
  results.update(zip(waiting, answers, strict=True))
  return None, ''


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


def _with_kind(argv: Sequence[str]) -> Sequence[str]:
  """Returns the arguments with the kind, which a model here can tell."""
  is_text = [not arg.startswith('-') for arg in argv]
  first = argv[is_text.index(True)] if any(is_text) else None
  models = [arg for arg in argv if arg.startswith('--model=')]
  if first in KINDS or not models or any(arg in HELP for arg in argv):
    return argv
  kind = predict_kinds.kind_of(models[-1].partition('=')[2])
  return argv if kind is None else [kind, *argv]


def main(argv: Sequence[str]):
  """Parses the command line and predicts."""
  given = COMMAND.parse(_with_kind(argv[1:]))
  try:
    predict(given)
  except BrokenPipeError:
    # Whoever read the results has enough, as `head` does.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
