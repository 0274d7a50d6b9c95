"""Recipes: parsing, the plan; a whole chain, and kills in each of its runs.

Chains of runs are slow, so all of them are with the kills (marker 'faults').
"""

import json

import killing
import one_device
import pretraining_text
import pytest

from mobilebert_jax import config_files, lock
from mobilebert_jax.errors import InputError
from mobilebert_jax.recipe import __main__ as command
from mobilebert_jax.recipe import chain, plan, recipe, vocabulary
from mobilebert_jax.reporting import metrics_log

# A vocabulary, a teacher and a student of two layers, and a task whose data
# the project makes by itself.
FILE = """
from mobilebert_jax import cli

MODEL = {
  'hidden_size': 16, 'intra_bottleneck_size': 16, 'embedding_size': 8,
  'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 16,
  'num_feedforward_networks': 1, 'max_position_embeddings': 32,
}


def get_recipe(variant=''):
  cli.choose(variant, {'': None, 'other': None})
  common = dict(
    task='pretraining', tokenizer='{vocabulary}', batch_size=8,
    eval_batch_size=32, checkpoint_every=2, eval_every=8, log_every=1,
    data={
      'source': 'files', 'path': '{data}', 'max_length': 24,
      'batching': 'padded', 'eval_examples': 32,
    },
    optimizer={'name': 'lamb', 'learning_rate': 0.01},
  )
  student = MODEL | {'intra_bottleneck_size': 8}
  taught = {
    'teacher': '{teacher}', 'strategy': 'progressive', 'transfer_steps': 8
  }
  return {
    'vocabulary': {'size': 300},
    'data': {'max_length': 24, 'block_size': 2000},
    'runs': {
      'teacher': cli.config_dict(**common, model=MODEL, num_steps=8),
      'student': cli.config_dict(
        **common, model=student, num_steps=16, distillation=taught
      ),
      'fine_tuned': cli.config_dict(
        task='entailment', init='{student}', batch_size=8, num_steps=6,
        eval_every=3, checkpoint_every=2, eval_batch_size=100,
        data={
          'source': 'generated', 'max_length': 32, 'train_examples': 64,
          'eval_examples': 100, 'buckets': (32,),
        },
      ),
    },
  }
"""
RUNS = ('teacher', 'student', 'fine_tuned')


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  """The recipe's file and its text."""
  folder = tmp_path_factory.mktemp('recipe')
  (folder / 'recipe.py').write_text(FILE)
  text = folder / 'text'
  text.mkdir()
  for seed in range(2):
    pretraining_text.write_text(text / f'{seed}.jsonl', 6, seed=seed)
  return folder / 'recipe.py', text


def arguments(given, workdir, *more):
  file, text = given
  return [
    f'--config={file}', f'--text={text}', f'--workdir={workdir}',
    '--workers=1', *more,
  ]  # fmt: skip


@pytest.fixture(scope='module')
def unbroken(given, tmp_path_factory):
  """The workdir of a chain that nothing has stopped."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'chain'
  with one_device.used():
    command.main(['recipe', *arguments(given, workdir)])
  return workdir


def load(given, *overrides, variant=''):
  return recipe.load(f'{given[0]}:{variant}', ['recipe', *overrides])


def test_overrides_go_to_their_groups(given):
  found = load(
    given,
    '--config.vocabulary.size=200',
    '--config.data.max_length=16',
    '--config.student.distillation.feature_map=7',
    '--config.teacher.data.max_length=16',
    '--noconfig.data.next_sentence',
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
    ('--config.vocabulary.size=1', 'vocabulary: config.vocabulary.size is 1'),
    ('--config.data.masking=often', "options.masking is 'often'"),
    ('--config.teacher.init={student}', 'config.teacher names {student}'),
    ('--config.teacher.init={', 'unpaired braces'),
  ],
)
def test_wrong_overrides(given, override, words):
  with pytest.raises(InputError) as error:
    load(given, override)
  assert words in str(error.value)


def test_wrong_recipe_files(given, tmp_path):
  path = tmp_path / 'wrong.py'
  path.write_text('def get_recipe(variant):\n  return {}\n')
  with pytest.raises(InputError, match="'vocabulary', 'data' and 'runs'"):
    recipe.load(str(path), ['recipe'])
  with pytest.raises(InputError, match='there is no variant'):
    load(given, variant='third')
  with pytest.raises(InputError, match=r'python -m mobilebert_jax\.recipe'):
    config_files.configure(str(given[0]), ['train.py'])
  path.write_text('def get_config(variant):\n  return 1\n')
  with pytest.raises(InputError, match=r'for train\.py'):
    recipe.load(str(path), ['recipe'])


def test_a_run_needs_a_name_of_its_own(given):
  found = load(given)
  run = found.runs['teacher']
  for name in ('text', 'my run'):
    with pytest.raises(InputError, match='cannot be called'):
      recipe.Recipe(
        vocabulary=found.vocabulary, data=found.data, runs={name: run}
      )


def test_missing_files_are_told_before_anything_is_written(given, tmp_path):
  workdir = tmp_path / 'chain'
  file, _ = given
  nowhere = [f'--config={file}', f'--text={tmp_path / "no"}']
  with pytest.raises(InputError, match='no such file'):
    command.main(['recipe', *nowhere, f'--workdir={workdir}'])
  needs = '--config.fine_tuned.tokenizer={task_data}'
  with pytest.raises(InputError, match='--task_data=DIR'):
    command.main(['recipe', *arguments(given, workdir, needs)])
  with pytest.raises(InputError, match='--workers=many'):
    command.main(['recipe', *arguments(given, workdir), '--workers=many'])
  assert not workdir.exists()


def test_one_chain_at_a_time_in_a_workdir(given, tmp_path):
  workdir = tmp_path / 'chain'
  with lock.held(workdir):
    with pytest.raises(InputError, match='in use by another run'):
      command.main(['recipe', *arguments(given, workdir)])


def test_the_plan_has_a_row_for_each_stage(given, tmp_path):
  found = load(given)
  places = chain.directories(chain.Given(given[1], tmp_path))
  rows = plan.rows(found, chain.resolve_runs(found, places))
  assert [(row.run, row.steps) for row in rows] == [
    ('teacher', 8), ('student', 4), ('student', 4), ('student', 8),
    ('fine_tuned', 6),
  ]  # fmt: skip
  assert rows[0].tokens == 8 * 8 * 24
  # The second stage goes through both models' second layers.
  assert rows[1].flops < rows[2].flops
  told = plan.table(rows)
  assert 'knowledge transfer to layer 1' in told
  assert len(told.splitlines()) == len(rows) + 3


@pytest.mark.parametrize(
  'file', ['recipe_small.py', 'recipe_paper.py', 'recipe_paper.py:joint']
)
def test_recipes_that_come_with_the_project(repo, tmp_path, file):
  found = recipe.load(str(repo / 'configs' / file), ['recipe'])
  assert list(found.runs) == list(RUNS)
  given = chain.Given(tmp_path, tmp_path / 'chain', tmp_path)
  runs = chain.resolve_runs(found, chain.directories(given))
  for run in (runs['teacher'], runs['student']):
    # What is prepared is what is read.
    assert run.data.max_length == found.data.max_length
    assert run.data.path == str(tmp_path / 'chain' / 'data')


def test_the_papers_plan(repo, tmp_path):
  found = recipe.load(str(repo / 'configs/recipe_paper.py'), ['recipe'])
  given = chain.Given(tmp_path, tmp_path / 'chain', tmp_path)
  rows = plan.rows(found, chain.resolve_runs(found, chain.directories(given)))
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
  records = metrics_log.read(unbroken / 'student' / 'metrics.jsonl')
  stages = [r['stage'] for r in records if 'stage' in r]
  assert stages == [0] * 4 + [1] * 4 + [2] * 8


@pytest.mark.faults
def test_a_finished_chain_is_not_run_again(given, unbroken, capsys):
  before = {p: p.stat().st_mtime_ns for p in unbroken.rglob('*.safetensors')}
  with one_device.used():
    command.main(['recipe', *arguments(given, unbroken)])
  assert 'went from' in capsys.readouterr().out
  after = {p: p.stat().st_mtime_ns for p in unbroken.rglob('*.safetensors')}
  assert before == after


@pytest.mark.faults
@pytest.mark.parametrize(
  ('override', 'words'),
  [
    ('--config.vocabulary.size=250', 'size: 300 there, 250 here'),
    ('--config.data.short_probability=0.5', 'short_probability is 0.1 there'),
    ('--config.teacher.seed=3', 'config.seed'),
  ],
)
def test_another_recipe_is_refused(given, unbroken, override, words):
  with pytest.raises(InputError) as error:
    command.main(['recipe', *arguments(given, unbroken, override)])
  assert words.removeprefix('config.') in str(error.value)


@pytest.mark.faults
def test_killed_in_each_run_the_bits_are_the_same(
  given, unbroken, repo, tmp_path
):
  workdir = tmp_path / 'chain'
  args = arguments(given, workdir)
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
  config = recipe.VocabularyConfig(tokenizer=str(path))
  target = tmp_path / 'vocabulary'
  vocabulary.learn(config, given[1], target, 'file', 'text')
  expected = pretraining_text.tokenizer().get_vocab()
  assert vocabulary.read(target).get_vocab() == expected
  missing = recipe.VocabularyConfig(tokenizer=str(tmp_path / 'no'))
  with pytest.raises(InputError, match='no'):
    vocabulary.learn(missing, given[1], tmp_path / 'new', 'file', 'text')
  assert not (tmp_path / 'new').exists()
