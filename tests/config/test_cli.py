"""Config files, overrides, and the one builder of command lines."""

import importlib
import subprocess
import sys

import pytest

from mobilebert_jax.config import (
  configure,
  fields,
  overrides,
  presets,
  task_options,
)
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.command_line import Command, Flag, Prefix
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError

FILE = """
from mobilebert_jax import config


def get_config(variant=''):
  settings = config.choose(variant, {'': {}, 'big': {'batch_size': 64}})
  return config.config_dict(task='sst2', num_epochs=2, **settings)
"""


@pytest.fixture
def parse(tmp_path):
  path = tmp_path / 'my_config.py'
  path.write_text(FILE)

  def run(*args, variant=''):
    return configure(f'{path}{variant}', args)

  return run


def test_overrides_of_every_kind(parse):
  config = parse(
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
  )
  assert config.optimizer.learning_rate == 1.0
  assert config.optimizer.max_grad_norm is None
  assert config.data.buckets == (32, 64)
  assert config.data.train_examples == 10
  assert config.init == 'some/dir'
  assert config.local_files_only
  assert config.model == {'hidden_size': 64, 'trigram_input': False}
  assert (config.num_epochs, config.num_steps) == (None, 5)


def test_variants(parse):
  assert parse(variant=':big').batch_size == 64
  assert overrides.name_of('a/my_config.py:big') == 'my_config_big'
  assert overrides.name_of('a/my_config.py') == 'my_config'


def test_a_word_none_is_a_value_where_none_is_a_choice(parse):
  assert parse('--config.remat=none').remat == 'none'


def test_calls_do_not_disturb_each_other(parse):
  assert parse('--config.seed=5').seed == 5
  assert parse().seed == 0


def test_every_field_can_be_overridden(parse):
  texts = {int: '7', float: '0.5', bool: 'true', str: 'text'}
  for name in run_config.MODEL_FIELDS:
    setting = run_config.model_setting(name)
    kind = fields.optional(setting.hint)[0]
    if setting.limits.get('below') == 1:
      assert kind is float
    config = parse(f'--config.model.{name}={texts[kind]}')
    assert config.model[name] == kind(True if kind is bool else texts[kind])


SPELLINGS = {
  '--config.seed=0x10': ('seed', 16),
  '--config.seed=0o10': ('seed', 8),
  '-config.seed=3': ('seed', 3),
  '--config.batch_size=8 --config.batch_size=9': ('batch_size', 9),
  '--config.local_files_only=T': ('local_files_only', True),
  '--config.local_files_only=0': ('local_files_only', False),
  '--config.local_files_only': ('local_files_only', True),
  '--noconfig.optimizer.bias_correction': ('optimizer.bias_correction', False),
  '--config.optimizer.learning_rate=1e-4': ('optimizer.learning_rate', 1e-4),
  '--config.optimizer.learning_rate=1': ('optimizer.learning_rate', 1.0),
  '--config.data.buckets=32,64': ('data.buckets', (32, 64)),
  '--config.data.buckets=[32,64]': ('data.buckets', (32, 64)),
  '--config.data.buckets=32': ('data.buckets', (32,)),
  '--config.data.buckets=()': ('data.buckets', ()),
  '--config.data.buckets=8 --config.data.buckets=(16,32)': (
    'data.buckets',
    (8, 16, 32),
  ),
  "--config.distillation.copy=('masked_lm_head',)": (
    'distillation.copy',
    ('masked_lm_head',),
  ),
  '--config.distillation.copy=masked_lm_head': (
    'distillation.copy',
    ('masked_lm_head',),
  ),
  '--config.init=x --config.init_layers=6': ('init_layers', 6),
  '--config.init=x --config.init_layers=(0,3,5)': ('init_layers', (0, 3, 5)),
  '--config.init=x --config.init_layers=[5]': ('init_layers', (5,)),
  '--config.init=x --config.init_layers=5,': ('init_layers', (5,)),
  '--config.init=x --config.init_layers=5 --config.init_layers=0,1': (
    'init_layers',
    (0, 1),
  ),
  '--config.init_layers=none': ('init_layers', None),
  '--config.tokenizer=NONE': ('tokenizer', None),
  '--config.init=a=b': ('init', 'a=b'),
}


@pytest.mark.parametrize('text', SPELLINGS)
def test_spellings_of_values(parse, text):
  path, expected = SPELLINGS[text]
  found = parse(*text.split(' '))
  for name in path.split('.'):
    found = getattr(found, name)
  assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('--config.seed=1e1', "config.seed is '1e1', but must be a whole number."),
    ('--config.num_steps=x', 'must be a whole number or none.'),
    ('--config.seed', 'the flag --config.seed needs a value'),
    ('--noconfig.seed', 'the flag --noconfig.seed needs a value'),
    ('--noconfig.local_files_only=true', 'takes no value'),
    ('--config.local_files_only=yes', 'must be True or False'),
    ('--config.data.buckets=a b', 'whole numbers in parentheses'),
    ('--config.init_layers=half', 'whole number or whole numbers in parenth'),
    ('--config.init_layers=6', "None with config.init 'scratch'"),
    ('--config.data.buckets=none', 'whole numbers in parentheses'),
    (
      '--config.data=3',
      'config.data is a group of fields; set them one by one',
    ),
    ('--config.seed.x=3', 'config.seed is a value and has no fields'),
    ('--config.model.num_labels=3', 'cannot be set: the task decides it'),
    ('--config.model.hidden_size=0', 'config.model.hidden_size is 0, but must'),
    ('--config.options.stride=1', "config.options has no field 'stride'"),
    ('--config.dtype=float16', '2.5e7'),
    ('--seed=1', 'there is no flag --seed'),
    ('word', "'word' belongs to no flag; write --name=value"),
  ],
)
def test_wrong_overrides(parse, text, words):
  with pytest.raises(InputError) as error:
    parse(text)
  assert words in str(error.value)
  assert str(error.value).endswith('.')


def test_a_plain_dictionary_is_a_config_too(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text(
    'def get_config(variant):\n'
    "  return {'task': 'sst2', 'num_steps': 3, 'data': {'buckets': [8, 16]}}\n"
  )
  config = configure(path, ['--config.data.max_length=16'])
  assert config == configure(path, ['--config.data.max_length=16'])
  assert config.data.buckets == (8, 16) and config.options['predict_test']


def test_a_config_may_be_changed_before_it_is_returned():
  made = overrides.config_dict(task='sst2', num_epochs=1)
  made.data.max_length = 64
  assert overrides.to_train_config(made).data.max_length == 64
  with pytest.raises(AttributeError):
    made.data.max_lenght = 64


COMMAND = Command(
  'python example.py',
  'Does something.\n\nAnd more.',
  (
    Flag('names', 'what', value='NAME', is_many=True, is_positional=True),
    Flag('size', 'how many', int, 8, limits={'at_least': 1}),
    Flag('is_fast', 'faster', bool, False),
    Flag('out', 'where', is_required=True, value='DIR'),
    Flag('column', 'columns', otherwise='all', is_repeated=True),
    Flag('kind', 'which', fields.one_of(('a', 'b')), 'a'),
    Flag('top', 'best', int, otherwise='one', words={'all': None}),
  ),
  example='--out=x',
  prefixes=(Prefix('config', '--config.a=VALUE', 'a field', ('depth',)),),
)


def parsed(*argv):
  return COMMAND.parse(['--out=o', *argv])


def test_values_and_defaults():
  given = parsed()
  assert given.values == {
    'names': (), 'size': 8, 'is_fast': False, 'out': 'o', 'column': (),
    'kind': 'a', 'top': None,
  }  # fmt: skip
  assert given.named == {'out'}
  given = parsed('a', 'b', '--size', '3', '--column=x', '--column', 'y')
  assert given['names'] == ('a', 'b') and given['column'] == ('x', 'y')
  assert given['size'] == 3 and given['top'] is None
  assert parsed('--', '--a')['names'] == ('--a',)
  assert 'top' in parsed('--top=all').named
  assert parsed('--config.depth=3').assignments['config'] == (('depth', '3'),)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('--is_fast', True), ('--is-fast', True), ('--is_fast=false', False),
    ('--nois_fast', False), ('--no-is_fast', False), ('--no_is_fast', False),
    ('-is_fast', True),
  ],
)  # fmt: skip
def test_spellings_of_a_truth(text, expected):
  assert parsed(text)['is_fast'] is expected


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--size=0'], '--size is 0, but must be at least 1.'),
    (['--size=x'], "--size is 'x', but must be a whole number."),
    (['--kind=c'], "--kind is 'c', but must be one of a, b."),
    (['--siez=3'], 'there is no flag --siez; did you mean --size?'),
    (['--depth=3'], 'there is no flag --depth; did you mean --config.depth?'),
    (
      ['--confg.depth=3'],
      'there is no flag --confg.depth; did you mean --config.depth?',
    ),
    (['--xyz'], 'there is no flag --xyz; see python example.py --help.'),
    (['--size'], 'the flag --size needs a value.'),
    (['--out='], 'the flag --out is missing.'),
  ],
)
def test_mistakes_are_told_in_one_sentence(argv, message):
  with pytest.raises(InputError) as error:
    parsed(*argv)
  assert str(error.value) == message


def test_the_help_tells_all():
  text = COMMAND.help()
  for part in (
    'Does something.\n\nusage: python example.py --out=DIR [flags]\n',
    '  --size=SIZE\n      how many (at least 1); default: 8\n',
    '  --[no]is_fast\n      faster; default: false\n',
    '  --kind=KIND\n      which (one of a, b); default: a\n',
    '  --out=DIR\n      where; required\n',
    '  --config.a=VALUE\n      a field\n',
    'And more.',
    'Example:\n  python example.py --out=x',
    'Exit status: 0 when finished; 2 if the input was wrong.',
  ):
    assert part in text
  assert all(len(line) <= 80 for line in text.splitlines())


def test_the_help_of_a_config_file_lists_its_settings(repo, capsys):
  train = overrides.run_command('python train.py', 'Trains.')
  file = f'{repo}/configs/custom_qa.py:small'
  argv = [f'--config={file}', '--config.seed=3', '--help']
  with pytest.raises(SystemExit):
    train.parse(argv)
  text = capsys.readouterr().out
  for part in (
    'Questions about your own texts, answered by a span of the text.',
    '--config.task=custom_qa\n',
    '--config.seed=3\n',
    'below 2147483648); default: 0\n',
    '--config.options.doc_stride=128\n',
    '--config.data.path=data\n',
    '--config.model.hidden_size=128\n',
    '--config.token=...\n',
  ):
    assert part in text, part


SETTINGS = (
  run_config.TrainConfig,
  *(kind for _, kind in fields.groups(run_config.TrainConfig)),
  run_config.MobileBertConfig,
  *sorted({*task_options.OPTIONS.values()}, key=lambda kind: kind.__name__),
)


@pytest.mark.parametrize('kind', SETTINGS, ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_means(kind):
  for setting in fields.settings(kind).values():
    assert setting.help and not setting.help.endswith('.'), setting.name
  assert 'Attributes:' not in kind.__doc__


def test_the_options_are_those_of_all_tasks():
  from mobilebert_jax.tasks import TASKS

  assert {*TASKS} == {*task_options.OPTIONS}
  assert [TASKS[name].name for name in TASKS] == [*TASKS]
  assert TASKS['custom_qa'].options is task_options.CustomQaOptions


MODULES = (
  'train', 'eval', 'mobilebert_jax.convert.__main__',
  'mobilebert_jax.distillation.__main__', 'mobilebert_jax.glue',
  'mobilebert_jax.sweep', 'mobilebert_jax.recipe',
  'mobilebert_jax.predict', 'mobilebert_jax.score',
  'mobilebert_jax.pretraining_data.__main__',
  'mobilebert_jax.pretraining_data.vocabulary',
  'mobilebert_jax.pretraining_data.beam', 'mobilebert_jax.data.prepare',
  'mobilebert_jax.tpu_compile.__main__', 'mobilebert_jax.check_slice',
)  # fmt: skip
HELPS = """
import importlib, sys
import mobilebert_jax
from mobilebert_jax.runtime import exit_status
for name in sys.argv[1:]:
  module = importlib.import_module(name)
  assert exit_status.run(module.main, [name, '--help']) == 0, name
  assert 'jax' not in sys.modules and 'numpy' not in sys.modules, name
argv = ['train', '--config=configs/glue_sst2.py', '--help']
assert exit_status.run(importlib.import_module('train').main, argv) == 0
argv = ['recipe', '--config=configs/recipe_small.py', '--help']
argv += ['--config.fine_tuned.batch_size=64']
recipe = importlib.import_module('mobilebert_jax.recipe')
assert exit_status.run(recipe.main, argv) == 0
heavy = {'jax', 'flax', 'numpy', 'torch', 'tensorflow'} & {*sys.modules}
assert not heavy, heavy
"""


def test_no_help_loads_jax(repo):
  """All of them in one process, which is as good as one for each."""
  done = subprocess.run(
    [sys.executable, '-c', HELPS, *MODULES],
    cwd=repo,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  usages = done.stdout.split('\nusage: python ')[1:]
  assert len(usages) == len(MODULES) + 2
  for usage in usages:
    assert usage.count('\nExit status: 0 when finished; ') == 1
  # Those of configs: all settings of a run; of a recipe's runs what they set.
  *_, run, recipe = usages
  assert '\n  --config.optimizer.learning_rate=' in run
  assert '\n  --config.vocabulary.size=' in recipe
  assert '\n  --config.fine_tuned.batch_size=64\n' in recipe
  assert '--config.fine_tuned.seed=' not in recipe


@pytest.mark.parametrize('name', MODULES[2:])
def test_each_flag_has_help_and_says_what_happens_without_it(name):
  command = importlib.import_module(name).COMMAND
  for one in (command, *command.commands.values()):
    assert one.example or one is not command or one.commands
    for flag in one.flags:
      assert flag.help and not flag.help.endswith('.')
      knows = flag.is_required or flag.otherwise or flag.default is not None
      assert knows or fields.optional(flag.hint)[1], flag.name


def test_what_convert_may_be_told_is_what_it_can():
  from mobilebert_jax.convert import __main__ as convert
  from mobilebert_jax.convert import save, source

  assert {*convert.CLASSES} == {*source.MODEL_CLASSES}
  assert convert.DTYPES == save.STORED_DTYPES


def test_a_main_function_behind_its_help(capsys):
  def main(argv):
    COMMAND.parse(argv[1:])
    raise AssertionError(argv)

  assert exit_status.run(main, ['x', '--help']) == 0
  assert capsys.readouterr().out == COMMAND.help() + '\n'


def test_the_public_address_of_config_files():
  from mobilebert_jax import config

  assert config.presets is presets
  assert config.config_dict is overrides.config_dict
  assert {*config.__all__} <= {*dir(config)}
  with pytest.raises(AttributeError, match='no attribute'):
    config.nothing  # noqa: B018


@pytest.mark.parametrize(
  ('error', 'status'),
  [
    (InputError('wrong'), 2),
    (FloatingPointError('diverged'), 1),
    (KeyboardInterrupt(), 130),
  ],
)
def test_exit_status(error, status, capsys):

  def main(argv):
    raise error

  assert exit_status.run(main, ['train.py']) == status
  assert capsys.readouterr().err.startswith(('error: ', 'interrupted'))


def test_defects_of_the_program_keep_their_traceback():

  def main(argv):
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    exit_status.run(main, ['train.py'])


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('def get_config(v):\n  return 1 +', ':2: SyntaxError'),
    ('x = 1', 'no function get_config'),
    ('def get_config(v):\n  return 3', 'must return the settings'),
    ('\nimport nothing_like_this', ':2: ModuleNotFoundError'),
    ('def get_config(v):\n  return 1 / 0', ':2: ZeroDivisionError'),
    (
      'from mobilebert_jax import config\n'
      'def get_config(v):\n  return config.config_dict(tsak="a")',
      "no field 'tsak'",
    ),
    (
      'from mobilebert_jax import config\n'
      'def get_config(v):\n  return config.config_dict(seed="a")',
      'config.seed',
    ),
    (
      'from mobilebert_jax import config\n'
      'def get_config(v):\n  return config.config_dict(data=3)',
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


def test_the_public_names_are_loaded_when_they_are_used():
  import mobilebert_jax as mb
  from mobilebert_jax import losses, pipelines

  for name in mb.__all__:
    assert callable(getattr(mb, name)), name
  assert {*mb.__all__} <= {*dir(mb)}
  assert mb.losses is losses and mb.pipelines.pipeline is mb.pipeline
  assert pipelines is mb.pipelines
  for name in ('nothing', '_nothing', '__nothing__'):
    assert not hasattr(mb, name)
