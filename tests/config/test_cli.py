import pytest

from mobilebert_jax.config import command_line, overrides
from mobilebert_jax.runtime.errors import InputError

FILE = """
from mobilebert_jax.config import command_line as cli


def get_config(variant=''):
  settings = cli.choose(variant, {'': {}, 'big': {'batch_size': 64}})
  return cli.config_dict(task='sst2', num_epochs=2, **settings)
"""


@pytest.fixture
def parse(tmp_path):
  path = tmp_path / 'my_config.py'
  path.write_text(FILE)

  def run(*args, variant=''):
    argv = ['train.py', f'--config={path}{variant}', *args]
    return command_line.parse(argv, {'workdir': 'where'})

  return run


def test_overrides_of_every_kind(parse):
  command = parse(
    '--config.optimizer.learning_rate=1',
    '--config.data.buckets=(32, 64)',
    '--config.data.train_examples=10',
    '--config.init=some/dir',
    '--config.local_files_only',
    '--config.model.hidden_size=64',
    '--config.model.trigram_input=false',
    '--config.optimizer.max_grad_norm=none',
    '--config.num_epochs=none',
    '--config.num_steps=5',
    '--workdir=w',
  )
  config = command.config
  assert config.optimizer.learning_rate == 1.0
  assert config.optimizer.max_grad_norm is None
  assert config.data.buckets == (32, 64)
  assert config.data.train_examples == 10
  assert config.init == 'some/dir'
  assert config.local_files_only
  assert config.model == {'hidden_size': 64, 'trigram_input': False}
  assert (config.num_epochs, config.num_steps) == (None, 5)
  assert command.flags == {'workdir': 'w'}
  assert command.name == 'my_config'


def test_variants(parse):
  command = parse(variant=':big')
  assert command.config.batch_size == 64
  assert command.name == 'my_config_big'


def test_a_word_none_is_a_value_where_none_is_a_choice(parse):
  assert parse('--config.remat=none').config.remat == 'none'


def test_calls_do_not_disturb_each_other(parse):
  assert parse('--config.seed=5').config.seed == 5
  assert parse().config.seed == 0


def test_every_field_can_be_overridden(parse):
  from mobilebert_jax.config import run as run_config

  values = {
    int: '7', float: '0.5', bool: 'true', str: 'text',
  }  # fmt: skip
  typed = command_line.config_dict(task='sst2', num_epochs=1)
  for name in run_config.MODEL_FIELDS:
    kind = typed.model.get_type(name)
    command = parse(f'--config.model.{name}={values[kind]}')
    assert command.config.model[name] == kind(
      True if kind is bool else values[kind]
    )


def test_help_needs_no_device(capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', ['train.py', '--help'])

  def main(argv):
    raise AssertionError(argv)

  assert command_line.run(main, 'What it does.') == 0
  assert capsys.readouterr().out == 'What it does.\n'


@pytest.mark.parametrize(
  ('error', 'status'),
  [
    (InputError('wrong'), 2),
    (FloatingPointError('diverged'), 1),
    (KeyboardInterrupt(), 130),
  ],
)
def test_exit_status(error, status, capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', ['train.py'])

  def main(argv):
    raise error

  assert command_line.run(main, '') == status
  assert capsys.readouterr().err.startswith(('error: ', 'interrupted'))


def test_defects_of_the_program_keep_their_traceback(monkeypatch):
  monkeypatch.setattr('sys.argv', ['train.py'])

  def main(argv):
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    command_line.run(main, '')


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('def get_config(v):\n  return 1 +', ':2: SyntaxError'),
    ('x = 1', 'no function get_config'),
    ('def get_config(v):\n  return {}', 'must return a ConfigDict'),
    ('\nimport nothing_like_this', ':2: ModuleNotFoundError'),
    ('def get_config(v):\n  return 1 / 0', ':2: ZeroDivisionError'),
    (
      'from mobilebert_jax import cli\n'
      'def get_config(v):\n  return cli.config_dict(tsak="a")',
      "no field 'tsak'",
    ),
    (
      'from mobilebert_jax import cli\n'
      'def get_config(v):\n  return cli.config_dict(seed="a")',
      'config.seed',
    ),
    (
      'from mobilebert_jax import cli\n'
      'def get_config(v):\n  return cli.config_dict(data=3)',
      'group of fields',
    ),
  ],
)
def test_mistakes_in_config_files_name_the_file(tmp_path, text, words):
  path = tmp_path / 'bad.py'
  path.write_text(text)
  with pytest.raises(InputError) as error:
    overrides.load_config_file(str(path))
  assert words in str(error.value)
  assert str(error.value).startswith(str(path))
  assert '\n' not in str(error.value)
