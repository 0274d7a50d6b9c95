"""Several tasks of GLUE in one command: table, averages, submission."""

import json
import os
import types
import zipfile

import pytest

from mobilebert_jax import glue as command
from mobilebert_jax import launch
from mobilebert_jax.config import run as run_config
from mobilebert_jax.experiments.glue import benchmark
from mobilebert_jax.runtime import lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.files import write_json
from mobilebert_jax.tasks import glue
from mobilebert_jax.training.failures import NonFiniteError
from mobilebert_jax.training.workdir import Workdir
from tests.support import glue_files, killing, one_device, tiny

# Whole runs.
pytestmark = pytest.mark.slow

# BERT_BASE on the test sets: BERT's paper and the benchmark's site.
BERT_BASE = {
  'cola': {'validation/matthews': 0.521},
  'sst2': {'validation/accuracy': 0.935},
  'mrpc': {'validation/accuracy': 0.848, 'validation/f1': 0.889},
  'stsb': {'validation/pearson': 0.871, 'validation/spearman': 0.858},
  'qqp': {'validation/accuracy': 0.892, 'validation/f1': 0.712},
  'mnli': {
    'validation_matched/accuracy': 0.846,
    'validation_mismatched/accuracy': 0.834,
  },
  'qnli': {'validation/accuracy': 0.905},
  'rte': {'validation/accuracy': 0.664},
  'wnli': {'validation/accuracy': 0.651},
}


def write(directory, rows=8):
  """Official files with enough rows for a batch; returns the config file."""
  glue_files.write(directory / 'data')
  for path in (directory / 'data').rglob('train.tsv'):
    lines = path.read_text().splitlines()
    labelled = lines[path.parent.name != 'CoLA' :]
    path.write_text('\n'.join([*lines, *labelled * rows]) + '\n')
  (directory / 'data' / 'AX.tsv').write_text(glue_files.DIAGNOSTICS)
  vocab = tiny.write_vocab(directory)
  text = tiny.CONFIG % {'data': str(directory / 'data'), 'vocab': str(vocab)}
  for name in glue.TABLE:
    (directory / f'tiny_{name}.py').write_text(
      text.replace("task='sst2'", f"task='{name}'")
    )
  return f'--config={directory}/tiny_{{task}}.py'


@pytest.fixture
def config(tmp_path):
  return write(tmp_path)


def run(config, workdir, *args):
  command.main(['glue', config, f'--workdir={workdir}', *args])


def summary(workdir):
  return json.loads((workdir / 'glue.json').read_text())


def members(workdir):
  with zipfile.ZipFile(workdir / 'glue_submission.zip') as archive:
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def test_averages_are_those_of_the_benchmark_and_of_berts_paper():
  # BERT's paper, table 1: 79.6; the benchmark's site: 78.3.
  assert benchmark.bert_average(BERT_BASE) == pytest.approx(0.796, abs=5e-5)
  assert benchmark.benchmark_average(BERT_BASE) == pytest.approx(
    0.783, abs=5e-4
  )
  assert benchmark.task_score('mrpc', BERT_BASE['mrpc']) == pytest.approx(
    0.8685
  )
  for task in BERT_BASE:
    rest = {name: BERT_BASE[name] for name in BERT_BASE if name != task}
    assert benchmark.benchmark_average(rest) is None
    assert (benchmark.bert_average(rest) is None) == (task != 'wnli')


def test_scores_of_the_averages_are_those_of_the_tasks():
  assert set(benchmark.SCORES) == set(glue.TABLE)
  for task, names in benchmark.SCORES.items():
    row = glue.TABLE[task]
    for name in names:
      split, score = name.split('/')
      assert split in row.table.splits.evaluation
      assert score in row.scores


def test_members_are_the_files_of_the_tasks():
  files = {
    f'{stem}.tsv': name
    for name, row in glue.TABLE.items()
    for stem in row.stems.values()
  }
  assert dict(benchmark.MEMBERS) == files and len(files) == 11


def test_an_archive_depends_on_its_files_alone(tmp_path):
  for name, task in benchmark.MEMBERS.items():
    (tmp_path / task).mkdir(exist_ok=True)
    (tmp_path / task / name).write_text(f'index\tprediction\n0\t{name}\n')
    (tmp_path / task / 'other.tsv').touch()
  folders = {task: tmp_path / task for task in benchmark.MEMBERS.values()}
  path = tmp_path / 'a.zip'
  assert benchmark.write_submission(path, folders) == ()
  first = path.read_bytes()
  with zipfile.ZipFile(path) as archive:
    assert archive.namelist() == list(benchmark.MEMBERS)
    assert archive.read('AX.tsv') == b'index\tprediction\n0\tAX.tsv\n'
  os.utime(tmp_path / 'cola' / 'CoLA.tsv', (1, 1))
  benchmark.write_submission(path, folders)
  assert path.read_bytes() == first
  del folders['mnli']
  assert benchmark.write_submission(path, folders) == (
    'MNLI-m.tsv', 'MNLI-mm.tsv', 'AX.tsv',
  )  # fmt: skip
  assert not list(tmp_path.glob('*.partial'))


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--tasks=cola,colla'], "'colla' is no task of GLUE; there are cola,"),
    (['--tasks=cola,cola'], 'names a task twice'),
    (['--tasks='], 'is no task of GLUE'),
    (['--config=tiny.py'], 'must have {task} where the name'),
    (['--config=none_{task}.py'], 'none_cola.py: there is no such file'),
    (['--config.sed=1'], "config has no field 'sed'"),
    (['--sed=1'], 'there is no flag --sed'),
    (['--config.task=cola'], "config for sst2 has the task 'cola'"),
    (['--config.batch_size=9'], 'must be a multiple of 8'),
  ],
)
def test_wrong_commands_write_nothing(config, tmp_path, args, message):
  with pytest.raises(InputError, match=message):
    run(config, tmp_path / 'w', *args)
  assert not (tmp_path / 'w').exists()


def test_a_wrong_row_of_the_last_task_is_found_first(config, tmp_path):
  path = tmp_path / 'data' / 'WNLI' / 'train.tsv'
  path.write_text(path.read_text() + '9\ta\tb\t7\n')
  with pytest.raises(InputError, match=r"WNLI/train\.tsv:\d+: .* is '7'"):
    run(config, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_other_directories_are_refused(config, tmp_path):
  (tmp_path / 'model_config.json').write_text('{}')
  with pytest.raises(InputError, match='holds a single run'):
    run(config, tmp_path)
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='is a file'):
    run(config, tmp_path / 'file')
  with pytest.raises(InputError, match='--workdir is missing'):
    command.main(['glue', config])


def test_one_suite_at_a_time_in_a_workdir(config, tmp_path):
  with lock.held(tmp_path / 'w'):
    with pytest.raises(InputError, match='w is in use by another run'):
      run(config, tmp_path / 'w')


@pytest.fixture
def quick(monkeypatch):
  """Runs without a model, with BERT's scores; one may be killed or diverge."""
  state = types.SimpleNamespace(trained=[], killed=None, diverges=None)

  def train(config, path):
    place = Workdir(path)
    path.mkdir(exist_ok=True)
    place.config.write_text(run_config.to_json(config))
    state.trained.append(config.task)
    if config.task == state.killed:
      raise KeyboardInterrupt
    if config.task == state.diverges:
      raise NonFiniteError('the loss is nan at step 3')
    place.predictions.mkdir()
    for name, task in benchmark.MEMBERS.items():
      if task == config.task:
        (place.predictions / name).write_text(name)
    results = {
      'task': config.task,
      'primary_metric': next(iter(BERT_BASE[config.task])),
      'best': {'step': 4, **BERT_BASE[config.task]},
    }
    write_json(place.results, results)
    return results

  monkeypatch.setattr(launch, 'train', train)
  return state


def test_all_tasks_stopped_and_continued(config, tmp_path, quick, capsys):
  broken, whole = tmp_path / 'broken', tmp_path / 'whole'
  quick.killed = 'qqp'
  with pytest.raises(KeyboardInterrupt):
    run(config, broken)
  assert quick.trained == ['cola', 'sst2', 'mrpc', 'stsb', 'qqp']
  assert set(members(broken)) == {
    'CoLA.tsv', 'SST-2.tsv', 'MRPC.tsv', 'STS-B.tsv',
  }  # fmt: skip
  quick.killed = None
  quick.trained.clear()
  run(config, broken)
  assert quick.trained == ['qqp', 'mnli', 'qnli', 'rte', 'wnli']
  run(config, whole)
  for name in ('glue.json', 'glue.md', 'glue_submission.zip'):
    assert (broken / name).read_bytes() == (whole / name).read_bytes()
  assert members(whole) == {n: n.encode() for n in benchmark.MEMBERS}
  found = summary(whole)
  assert found['missing_files'] == []
  assert found['glue_average'] == benchmark.benchmark_average(BERT_BASE)
  assert found['bert_average'] == benchmark.bert_average(BERT_BASE)
  assert found['tasks']['mnli']['score'] == pytest.approx(0.84)
  told = capsys.readouterr().out
  assert (whole / 'glue.md').read_text() in told
  assert '| mnli | 84.0 | validation\\_matched/accuracy 84.6, ' in told
  assert "as in BERT's paper, without WNLI: 79.6." in told
  assert 'glue_submission.zip is complete.' in told


def test_tasks_in_two_goes_and_one_that_diverges(config, tmp_path, quick):
  workdir = tmp_path / 'w'
  quick.diverges = 'cola'
  with pytest.raises(FloatingPointError, match='cola diverged'):
    run(config, workdir, '--tasks=cola,rte')
  assert quick.trained == ['cola', 'rte']
  found = summary(workdir)
  assert found['tasks']['cola'] == {
    'status': 'diverged', 'problem': 'the loss is nan at step 3',
  }  # fmt: skip
  assert set(members(workdir)) == {'RTE.tsv'}
  run(config, workdir, '--tasks=wnli')
  assert set(members(workdir)) == {'RTE.tsv', 'WNLI.tsv'}
  found = summary(workdir)
  assert found['tasks']['rte']['score'] == pytest.approx(0.664)
  assert found['tasks']['qqp']['status'] == 'not finished'
  assert (found['glue_average'], found['bert_average']) == (None, None)
  table = (workdir / 'glue.md').read_text()
  assert 'CoLA.tsv (task cola)' in table and 'MNLI-m.tsv (task mnli)' in table
  assert 'RTE.tsv' not in table
  # Another config is refused before anything runs.
  quick.trained.clear()
  with pytest.raises(InputError, match='made by another config'):
    run(config, workdir, '--tasks=sst2,rte', '--config.seed=7')
  assert quick.trained == []


def test_mnli_is_trained_and_answers_three_test_sets(config, tmp_path):
  workdir = tmp_path / 'w'
  with one_device.used():
    run(config, workdir, '--tasks=mnli', '--config.num_steps=4')
  assert set(members(workdir)) == {'MNLI-m.tsv', 'MNLI-mm.tsv', 'AX.tsv'}
  for name, ids in (('MNLI-m.tsv', ['7']), ('AX.tsv', ['0', '1'])):
    header, *rows = members(workdir)[name].decode().splitlines()
    assert header == 'index\tprediction'
    assert [row.split('\t')[0] for row in rows] == ids
    words = {row.split('\t')[1] for row in rows}
    assert words <= {'entailment', 'neutral', 'contradiction'}
  results = json.loads((workdir / 'mnli' / 'results.json').read_text())
  entry = summary(workdir)['tasks']['mnli']
  both = [f'validation_{kind}matched/accuracy' for kind in ('', 'mis')]
  assert entry['scores'] == {name: results['best'][name] for name in both}
  assert entry['score'] == pytest.approx(sum(entry['scores'].values()) / 2)


@pytest.mark.long
def test_a_killed_suite_continues(config, repo, tmp_path):
  args = ['--tasks=cola,stsb,wnli', '--config.num_steps=4']
  broken, whole = tmp_path / 'broken', tmp_path / 'whole'
  moment = "config.task == 'stsb' and step == 3"
  killing.run(repo, 'glue', moment, [config, f'--workdir={broken}', *args])
  assert set(members(broken)) == {'CoLA.tsv'}
  run(config, broken, *args)
  lines = members(broken)['STS-B.tsv'].decode().splitlines()
  assert [line.split('\t')[0] for line in lines] == ['index', '0', '1']
  assert all(0 <= float(line.split('\t')[1]) <= 5 for line in lines[1:])
  run(config, whole, *args)
  for name in ('glue.json', 'glue.md', 'glue_submission.zip'):
    assert (broken / name).read_bytes() == (whole / name).read_bytes()
