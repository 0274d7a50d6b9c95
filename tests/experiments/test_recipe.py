"""Recipes: parsing, the plan; a whole chain, and kills in each of its parts.

Chains of runs are slow, so all of them are with the kills (marker 'faults').
"""

import json
import re
import shutil

import pytest

from mobilebert_jax import recipe as command
from mobilebert_jax.config import overrides
from mobilebert_jax.data.records import records
from mobilebert_jax.experiments.recipe import chain, data, plan, recipe
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime import lock
from mobilebert_jax.runtime.errors import InputError
from tests.support import killing, one_device, pretraining_text
from tests.support.tiny_recipe import RUNS, arguments, checked, load, write


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  """The recipe's file and its text."""
  return write(tmp_path_factory.mktemp('recipe'))


@pytest.fixture(scope='module')
def unbroken(given, tmp_path_factory):
  """The workdir of a chain that nothing has stopped."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'chain'
  with one_device.used():
    command.main(['recipe', *arguments(given, workdir)])
  return workdir


def test_overrides_go_to_their_groups(given):
  found = load(
    given[0],
    (
      '--config.vocabulary.size=200',
      '--config.data.max_length=16',
      '--config.student.distillation.feature_map=7',
      '--config.teacher.data.max_length=16',
      '--noconfig.data.next_sentence',
    ),
  )
  assert found.vocabulary.size == 200
  assert (found.data.max_length, found.data.next_sentence) == (16, False)
  assert found.runs['student'].distillation.feature_map == 7
  assert found.runs['teacher'].data.max_length == 16
  assert found.runs['student'].data.max_length == 24
  assert list(found.runs) == list(RUNS)


@pytest.mark.parametrize(
  ('override', 'words'),
  [
    ('--config.tutor.num_steps=3', 'vocabulary, data, teacher, student'),
    ('--config.num_steps=3', 'vocabulary, data, teacher, student'),
    ('--config.teacher.num_stepps=3', 'teacher: config has no field'),
    ('--config.teacher.seed=x', "teacher: config.seed is 'x'"),
    ('--config.vocabulary.size=x', "config.vocabulary.size is 'x'"),
    ('--config.vocabulary.size=1', 'config.vocabulary.size is 1'),
    ('--config.data.masking=often', "config.data.masking is 'often'"),
    ('--config.teacher.init={student}', 'config.teacher names {student}'),
    ('--config.teacher.init={', 'unpaired braces'),
  ],
)
def test_wrong_overrides(given, override, words):
  with pytest.raises(InputError) as error:
    load(given[0], [override])
  assert words in str(error.value)


@pytest.mark.parametrize(
  'override',
  [
    '--config.num_steps=3',
    '--config.teacher.num_stepps=3',
    '--config.teacher.seed=x',
    '--config.vocabulary.size=x',
  ],
)
def test_help_says_what_is_wrong_in_the_same_words(given, override, tmp_path):
  with pytest.raises(InputError) as error:
    load(given[0], [override])
  args = arguments(given, tmp_path / 'chain', override)
  with pytest.raises(InputError) as told:
    recipe.describe(command.COMMAND.parse(args))
  assert str(told.value) == str(error.value)


def test_wrong_recipe_files(given, tmp_path):
  path = tmp_path / 'wrong.py'
  path.write_text('def get_recipe(variant):\n  return {}\n')
  with pytest.raises(InputError, match="'vocabulary', 'data' and 'runs'"):
    load(path)
  with pytest.raises(InputError, match='there is no variant'):
    load(f'{given[0]}:third')
  with pytest.raises(InputError, match=r'python -m mobilebert_jax\.recipe'):
    overrides.configure(given[0])
  path.write_text('def get_config(variant):\n  return 1\n')
  with pytest.raises(InputError, match=r'for train\.py'):
    load(path)


def test_a_run_needs_a_name_of_its_own(given):
  found = load(given[0])
  run = found.runs['teacher']
  for name in ('text', 'my run'):
    with pytest.raises(InputError, match='cannot be called'):
      recipe.Recipe(
        vocabulary=found.vocabulary, data=found.data, runs={name: run}
      )


def test_one_chain_at_a_time_in_a_workdir(given, tmp_path):
  workdir = tmp_path / 'chain'
  with lock.held(workdir):
    with pytest.raises(InputError, match='in use by another run'):
      command.main(['recipe', *arguments(given, workdir)])


def test_every_process_must_have_the_same_places(given, tmp_path, monkeypatch):
  """Else one of them alone would fail, and the others wait for it."""
  compared = []

  def stop(what, value):
    compared.extend(value)
    raise InputError('stopped')

  monkeypatch.setattr(command.distributed, 'check_same', stop)
  places = [str(tmp_path / 'chain'), str(tmp_path / 'task')]
  args = arguments(given, places[0], f'--task_data={places[1]}')
  with pytest.raises(InputError, match='stopped'):
    command.main(['recipe', *args])
  assert {*places, str(given[0]), str(given[1])} <= {*compared[1:]}
  # What process 0 has made must be seen by the others; told to all of them.
  with pytest.raises(InputError, match='--workdir must be a directory that'):
    chain.read_vocabulary(tmp_path / 'chain' / 'vocabulary')


def test_the_plan_has_a_row_for_each_stage(given, tmp_path):
  runs = checked(load(given[0]), chain.Given(given[1], tmp_path))
  rows = plan.stage_costs(runs)
  assert [(row.run, row.steps) for row in rows] == [
    ('teacher', 8), ('student', 4), ('student', 4), ('student', 8),
    ('fine_tuned', 6),
  ]  # fmt: skip
  assert rows[0].tokens == 8 * 8 * 24
  # The second stage goes through both models' second layers.
  assert rows[1].flops < rows[2].flops
  told = plan.table(rows)
  assert 'knowledge transfer to layer 1' in told
  assert 'activations come on top' in told
  assert len(told.splitlines()) == len(rows) + 3


def test_the_plan_counts_the_teacher_in_its_dtype(given, tmp_path):
  place = chain.Given(given[1], tmp_path)
  dtypes = ('bfloat16', 'float32')
  low, high = (
    plan.stage_costs(
      checked(
        load(
          given[0], [f'--config.student.distillation.teacher_dtype={dtype}']
        ),
        place,
      )
    )
    for dtype in dtypes
  )
  assert high[1].bytes - low[1].bytes == 2 * low[0].parameters


def test_the_plan_of_runs_whose_length_is_in_epochs(given, tmp_path):
  """Steps are counted where the rows are known, and else left open."""
  epochs = ('num_steps=None', 'num_epochs=2.0')
  tuned = [f'--config.fine_tuned.{value}' for value in epochs]
  student = [f'--config.student.{value}' for value in epochs]
  runs = checked(
    load(given[0], [*tuned, *student]), chain.Given(given[1], tmp_path)
  )
  rows = plan.stage_costs(runs)
  assert [(row.run, row.steps) for row in rows] == [
    ('teacher', 8), ('student', None), ('fine_tuned', 2 * 64 // 8),
  ]  # fmt: skip
  assert 'pretraining: with a teacher' in plan.table(rows)


@pytest.mark.parametrize(
  'file',
  ['recipe_small.py', 'recipe_paper.py', 'recipe_paper.py:joint',
   'recipe_small.py:custom', 'recipe_small.py:pretraining'],
)  # fmt: skip
def test_recipes_that_come_with_the_project(repo, tmp_path, file):
  found = load(repo / 'configs' / file)
  assert tuple(found.runs) == RUNS[: 2 if 'pretraining' in file else 3]
  assert found.needs_task_data() == ('pretraining' not in file)
  given = chain.Given(tmp_path, tmp_path / 'chain', tmp_path)
  runs = chain.resolve_runs(found, given)
  assert list(found.runs_on_data()) == ['teacher', 'student']
  for run in (runs['teacher'], runs['student']):
    # What is prepared is what is read.
    assert run.data.max_length == found.data.max_length


def test_a_recipe_that_ends_in_a_task_of_ones_own(repo, tmp_path):
  task = tmp_path / 'task'
  task.mkdir()
  rows = ''.join(f'text {i},{i % 2}\n' for i in range(200))
  (task / 'train.csv').write_text(f'review,stars\n{rows}')
  columns = {'text_column': 'review', 'label_column': 'stars'}
  found = load(
    repo / 'configs/recipe_small.py:custom',
    [f'--config.fine_tuned.options.{k}={v}' for k, v in columns.items()],
  )
  run = checked(found, chain.Given(tmp_path, tmp_path / 'chain', task))[
    'fine_tuned'
  ]
  assert run.task.labels == ('0', '1')
  # A tenth is held out.
  assert run.steps == 180 // 32


def test_the_papers_plan(repo, tmp_path):
  found = load(repo / 'configs/recipe_paper.py')
  pretraining = {name: found.runs[name] for name in ('teacher', 'student')}
  found = recipe.Recipe(
    vocabulary=found.vocabulary, data=found.data, runs=pretraining
  )
  given = chain.Given(tmp_path, tmp_path / 'chain')
  rows = plan.stage_costs(checked(found, given))
  student = [row for row in rows if row.run == 'student']
  assert [row.steps for row in student] == [10_000] * 24 + [500_000]
  # google-research's 740,000 steps of 2,048 sequences of 512 tokens.
  assert sum(row.tokens for row in student) == 740_000 * 2048 * 512
  assert rows[0].parameters == 306_483_516


@pytest.mark.faults
def test_the_whole_chain(unbroken):
  summary = json.loads((unbroken / 'recipe.json').read_text())
  assert tuple(run['name'] for run in summary['runs']) == RUNS
  assert summary['model'] == 'fine_tuned/model'
  assert (unbroken / summary['model'] / 'model.safetensors').is_file()
  report = (unbroken / 'recipe.md').read_text()
  assert all(f'({name}/report.md)' in report for name in RUNS)
  assert (unbroken / 'recipe.png').stat().st_size > 10_000
  logged = metrics_log.read(unbroken / 'student' / 'metrics.jsonl')
  stages = [r['stage'] for r in logged if 'stage' in r]
  assert stages == [0] * 4 + [1] * 4 + [2] * 8


@pytest.mark.faults
def test_a_finished_chain_is_not_run_again(
  given, unbroken, capsys, monkeypatch
):
  before = {p: p.stat().st_mtime_ns for p in unbroken.rglob('*.safetensors')}

  def read(*args):
    raise AssertionError('the text is read again')

  # 17 GB of it, on every host, at every start.
  monkeypatch.setattr(
    'mobilebert_jax.data.readers.documents.read_documents', read
  )
  with one_device.used():
    command.main(['recipe', *arguments(given, unbroken)])
  told = capsys.readouterr().out
  assert 'went from' in told
  after = {p: p.stat().st_mtime_ns for p in unbroken.rglob('*.safetensors')}
  assert before == after
  # What was told is what the runs do.
  held, blocks = re.search(r'held out: (\d+) of (\d+) blocks', told).groups()
  found = records.find(unbroken / 'data')
  assert len(found.sources) == int(blocks)
  assert len(found.hold_out(0.05)[1].sources) == int(held)


@pytest.mark.faults
@pytest.mark.parametrize(
  ('override', 'words'),
  [
    ('--config.vocabulary.size=250', 'size: 300 there, 250 here'),
    ('--config.data.short_probability=0.5', 'short_probability: 0.1 there'),
    ('--config.data.documents=line', "documents: 'file' there, 'line' here"),
    ('--config.teacher.seed=3', 'seed: 0 there, 3 here'),
  ],
)
def test_another_recipe_is_refused(given, unbroken, override, words):
  with pytest.raises(InputError) as error:
    command.main(['recipe', *arguments(given, unbroken, override)])
  assert words in str(error.value)


@pytest.mark.faults
@pytest.mark.parametrize(
  ('part', 'stale'),
  [
    ('vocabulary', 'data was made from an earlier vocabulary'),
    ('data', 'teacher was made from an earlier data'),
    ('teacher', 'student was made from an earlier teacher'),
    ('student', 'fine_tuned was made from an earlier student'),
  ],
)
def test_what_is_left_of_a_deleted_part_is_refused(
  given, unbroken, tmp_path, part, stale
):
  workdir = tmp_path / 'chain'
  shutil.copytree(unbroken, workdir)
  shutil.rmtree(workdir / part)
  with pytest.raises(InputError) as error:
    command.main(['recipe', *arguments(given, workdir)])
  assert stale in str(error.value)
  assert not (workdir / part).exists()


@pytest.mark.faults
def test_runs_go_on_from_those_of_another_chain(given, unbroken, tmp_path):
  """Directories in place of names in braces are planned with as they are."""
  changes = {
    'teacher.data.path': unbroken / 'data',
    'teacher.tokenizer': unbroken / 'vocabulary',
    'student.distillation.teacher': unbroken / 'teacher',
    'fine_tuned.init': unbroken / 'student' / 'model',
  }
  overrides = [f'--config.{name}={value}' for name, value in changes.items()]
  place = chain.Given(given[1], tmp_path / 'chain')
  found, usual = (
    checked(load(given[0], more), place) for more in (overrides, ())
  )
  assert plan.stage_costs(found) == plan.stage_costs(usual)


@pytest.mark.faults
def test_the_last_part_can_be_made_again(given, unbroken):
  model = unbroken / 'fine_tuned' / 'model' / 'model.safetensors'
  before = model.read_bytes()
  shutil.rmtree(unbroken / 'fine_tuned')
  with one_device.used():
    command.main(['recipe', *arguments(given, unbroken)])
  assert model.read_bytes() == before


# Eight processes. That a chain goes on is shown above, that a killed run does,
# by the tests of runs.
@pytest.mark.long
@pytest.mark.faults
def test_killed_in_each_part_the_bits_are_the_same(
  given, unbroken, repo, tmp_path
):
  workdir = tmp_path / 'chain'
  args = arguments(given, workdir)
  # The vocabulary is written but not yet there; so are the counts of block 1.
  for pattern in (r'vocabulary\.json$', r'00001-of-\d+\.json$'):
    killing.run_to_file(repo, 'recipe', pattern, args, devices=1)
  taught = 'config.distillation.teacher'
  moments = (
    f'config.task == "pretraining" and not {taught} and step == 5',
    f'{taught} and step == 3',
    f'{taught} and step == 6',
    f'{taught} and step == 13',
    'config.task == "entailment" and step == 5',
  )
  for moment in moments:
    killing.run(repo, 'recipe', moment, args, devices=1)
  with one_device.used():
    command.main(['recipe', *args])
  killing.assert_same_models(RUNS, unbroken, workdir)


def test_a_vocabulary_that_exists_already(given, tmp_path):
  path = pretraining_text.write_vocab(tmp_path)
  setting = '--config.vocabulary.tokenizer='
  found = load(given[0], [f'{setting}{path}'])
  target = tmp_path / 'vocabulary'
  data.learn_vocabulary(found, given[1], target)
  expected = pretraining_text.tokenizer().get_vocab()
  assert data.read_vocabulary(target).get_vocab() == expected
  missing = load(given[0], [f'{setting}{tmp_path / "no"}'])
  with pytest.raises(InputError, match='no'):
    data.learn_vocabulary(missing, given[1], tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


def test_letters_of_a_vocabulary_are_set(given, tmp_path):
  path = pretraining_text.write_vocab(tmp_path)
  names = ('do_lower_case', 'strip_accents')
  group = '--config.vocabulary.'

  def letters(*settings):
    found = load(given[0], [f'{group}tokenizer={path}', *settings])
    tokenizer = data.existing_vocabulary(found.vocabulary)
    return [getattr(tokenizer, name) for name in names]

  assert letters() == [True, None]
  assert letters(f'{group}strip_accents=False') == [True, False]
  assert letters(f'{group}do_lower_case=False') == [False, None]


def test_a_vocabulary_is_of_its_text(given, tmp_path, monkeypatch):
  text, target = tmp_path / 'text', tmp_path / 'vocabulary'
  shutil.copytree(given[1], text)
  found = load(given[0])
  data.learn_vocabulary(found, text, target)
  # The same text by another name.
  monkeypatch.chdir(tmp_path)
  assert data.is_vocabulary_learnt(found, text.relative_to(tmp_path), target)
  other = load(given[0], ['--config.data.text_column=body'])
  with pytest.raises(InputError, match="text_column: 'text' there, 'body'"):
    data.learn_vocabulary(other, text, target)
  with (text / '1.jsonl').open('a') as file:
    file.write('{"text": "More."}\n')
  with pytest.raises(InputError, match=r'has changed, first in 1\.jsonl'):
    data.learn_vocabulary(found, text, target)


def test_a_directory_of_something_else_is_no_vocabulary(given, tmp_path):
  target = tmp_path / 'vocabulary'
  target.mkdir()
  (target / 'vocab.txt').write_text('mine\n')
  with pytest.raises(InputError, match=r'something else \(vocab\.txt'):
    data.learn_vocabulary(load(given[0]), given[1], target)
  assert (target / 'vocab.txt').read_text() == 'mine\n'
