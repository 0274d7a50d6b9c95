"""What is wrong with a recipe is found before anything is written."""

import json

import pytest

from mobilebert_jax import recipe as command
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.experiments.recipe import chain, data
from mobilebert_jax.runtime.errors import InputError
from tests.support.tiny_recipe import arguments, checked, load, write


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  """The recipe's file and its text."""
  return write(tmp_path_factory.mktemp('recipe'))


def refused(args, workdir) -> str:
  """The error of a command that writes nothing."""
  with pytest.raises(InputError) as error:
    command.main(['recipe', *args])
  assert not workdir.exists()
  return str(error.value)


def test_missing_files_and_wrong_flags(given, tmp_path):
  workdir = tmp_path / 'chain'
  args = arguments(given, workdir)
  nowhere = [args[0], f'--text={tmp_path / "no"}', args[2]]
  assert 'no such file' in refused(nowhere, workdir)
  needs = '--config.fine_tuned.tokenizer={task_data}'
  assert '--task_data=DIR' in refused([*args, needs], workdir)
  assert '--workers is' in refused([*args, '--workers=many'], workdir)


@pytest.mark.parametrize(
  ('override', 'words'),
  [
    ('student.model.hidden_size=32', 'student: hidden_size is 32'),
    ('student.model.num_attention_heads=4', 'student: num_attention_heads'),
    ('student.model.num_hidden_layers=3', 'student: the student has 3 layers'),
    ('student.model.vocab_size=900', 'student: vocab_size is 900'),
    ('student.distillation.transfer_steps=7', 'student: config.distillation.t'),
    ('teacher.model.max_position_embeddings=64',
     'student: config.distillation.copy names position_embeddings'),
    ('teacher.data.max_length=16', 'teacher: config.data.max_length is 16'),
    ('data.max_length=16', 'teacher: config.data.max_length is 24, but the '
     'data is prepared with 16'),
    ('data.next_sentence=False', 'teacher: config.options.next_sentence'),
    ('fine_tuned.data.max_length=40', 'fine_tuned: config.data.max_length'),
    ('fine_tuned.init=/no/model', 'fine_tuned: /no/model does not exist'),
    ('fine_tuned.tokenizer=/no/vocab', 'fine_tuned: /no/vocab'),
    ('student.distillation.teacher=/no/run', 'student: config.distillation'),
    ('fine_tuned.batch_size=128', 'fine_tuned: config.batch_size is 128'),
  ],
)  # fmt: skip
def test_runs_that_cannot_fit(given, tmp_path, override, words):
  workdir = tmp_path / 'chain'
  args = arguments(given, workdir, f'--config.{override}')
  assert words in refused(args, workdir)


def test_a_run_reads_the_data_that_is_made_for_it(given, tmp_path):
  """Prepared records are for pre-training alone."""
  file = tmp_path / 'recipe.py'
  wrong = given[0].read_text().replace("task='pretraining'", "task='masked_lm'")
  file.write_text(wrong)
  args = arguments((file, given[1]), tmp_path / 'chain')
  assert 'which only pretraining reads' in refused(args, tmp_path / 'chain')


@pytest.mark.parametrize(
  ('row', 'words'),
  [('good,', 'expected a label'), ('"good', 'train.csv')],
)
def test_a_wrong_row_of_the_task(repo, given, tmp_path, row, words):
  task, workdir = tmp_path / 'task', tmp_path / 'chain'
  task.mkdir()
  rows = ''.join(f'text {i},{i % 2}\n' for i in range(100))
  (task / 'train.csv').write_text(f'text,label\n{rows}{row}\n')
  file = f'{repo}/configs/recipe_small.py:custom'
  args = arguments((file, given[1]), workdir, f'--task_data={task}')
  told = refused(args, workdir)
  assert told.startswith('fine_tuned: ')
  assert words in told


def test_a_teacher_that_exists(given, tmp_path):
  """Its own architecture is planned with and compared."""
  place = tmp_path / 'teacher'
  place.mkdir()
  (place / 'model.safetensors').touch()

  def teach(**settings):
    loaded = load(given[0], [f'--config.student.distillation.teacher={place}'])
    known = loaded.runs['teacher'].model | settings
    values = {
      'model_type': 'mobilebert',
      **{k: v for k, v in known.items() if k != 'num_feedforward_networks'},
      'num_feedforward_networks': 1,
      'vocab_size': 777,
    }
    (place / 'config.json').write_text(json.dumps(values))
    return checked(loaded, chain.Given(given[1], tmp_path / 'chain'))

  found = teach()['student'].model.teacher
  assert isinstance(found, MobileBertConfig)
  assert (found.hidden_size, found.vocab_size) == (16, 777)
  with pytest.raises(InputError, match='student: hidden_size is 16 in the'):
    teach(hidden_size=32)


def test_one_document_is_too_little(given, tmp_path):
  """The commonest start: a single file of text."""
  text, workdir = tmp_path / 'book.txt', tmp_path / 'chain'
  text.write_text('A word.\n\n' * 3)
  args = arguments((given[0], text), workdir)
  told = refused(args, workdir)
  assert '--config.data.documents=paragraph' in told
  assert '--noconfig.data.next_sentence' in told
  assert '--documents' not in told
  lines = [
    '--noconfig.data.next_sentence', '--config.teacher.options.next_sentence=0',
    '--config.student.options.next_sentence=0',
  ]  # fmt: skip
  told = refused([*args, *lines], workdir)
  assert 'has 1 documents' in told
  assert '--config.data.documents=paragraph' in told


def test_a_text_of_one_block_is_too_little(given, tmp_path):
  workdir = tmp_path / 'chain'
  args = arguments(given, workdir, '--config.data.block_size=16000000')
  told = refused(args, workdir)
  size = int(told.partition('--config.data.block_size=')[2].split()[0])
  # What is advised is enough.
  loaded = load(given[0], [f'--config.data.block_size={size}'])
  announced = data.describe_held_out(loaded, given[1], workdir / 'data')
  held, blocks = announced.split()[2], announced.split()[4]
  assert int(blocks) > 5
  assert held == '1'


def test_errors_in_the_text_name_settings_of_the_recipe(given, tmp_path):
  workdir = tmp_path / 'chain'
  column = '--config.data.text_column=body'
  told = refused(arguments(given, workdir, column), workdir)
  assert "there is no 'body' (config.data.text_column)" in told
