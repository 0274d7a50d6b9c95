"""tpu_setup.sh without a TPU: a stand-in for gcloud, whose workers are here."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.support import processes

# Runs what it is told on N directories that stand for the home directories of
# N workers; they find each other as the tasks of a SLURM job would.
GCLOUD = """#!{python}
import os, pathlib, shutil, subprocess, sys

root = pathlib.Path({root!r})
arguments = sys.argv[1:]
with (root / 'calls').open('a') as calls:
  print(*arguments, file=calls)
words = [a for a in arguments if not a.startswith('--')]
flags = dict(a[2:].partition('=')[::2] for a in arguments if a[:2] == '--')
assert words[:2] == ['compute', 'tpus'] and flags['zone'] == 'here', arguments
workers = sorted(root.glob('worker_*'))

if words[2:4] == ['queued-resources', 'describe']:
  states = root / 'states'
  left = states.read_text().split() if states.exists() else []
  if not left:
    sys.exit(1)
  print(left[0])
  states.write_text(' '.join(left[1:] or left))
elif words[2:4] == ['queued-resources', 'create']:
  (root / 'states').write_text(os.environ['QUEUE'])
elif words[2:4] == ['tpu-vm', 'describe']:
  assert flags['format'] == 'value(networkEndpoints.len())'
  if not workers:
    sys.exit('NOT_FOUND')
  print(len(workers))
elif words[2:4] == ['tpu-vm', 'scp']:
  name = words[5].partition(':')[2]
  for home in workers:
    shutil.copy(words[4], home / name)
elif words[2:4] == ['tpu-vm', 'ssh']:
  assert flags['worker'] == 'all' and flags['batch-size'] == 'all'
  started = []
  for index, home in enumerate(workers):
    own = os.environ | {{
      'HOME': str(home), 'WORKER_NAME': home.name,
      'SLURM_JOB_ID': os.environ['JOB'], 'SLURM_STEP_NODELIST': '127.0.0.1',
      'SLURM_NTASKS': str(len(workers)), 'SLURM_PROCID': str(index),
      'SLURM_LOCALID': str(index),
    }}
    if (home / 'packages').exists():
      own['PYTHONPATH'] = str(home / 'packages')
    started.append(subprocess.Popen(['bash', '-c', flags['command']],
                                    cwd=home, env=own))
  sys.exit(max(process.wait() for process in started))
else:
  sys.exit(f'the stand-in does not know {{arguments}}')
"""


@pytest.fixture
def root(tmp_path):
  """A directory with gcloud and a virtual environment that has everything."""
  (tmp_path / 'bin').mkdir()
  gcloud = tmp_path / 'bin' / 'gcloud'
  gcloud.write_text(GCLOUD.format(python=sys.executable, root=str(tmp_path)))
  gcloud.chmod(0o755)
  venv = tmp_path / 'venv' / 'bin'
  venv.mkdir(parents=True)
  (venv / 'python').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
  (venv / 'python').chmod(0o755)
  (venv / 'activate').write_text(f'PATH={venv}:$PATH\n')
  return tmp_path


def workers(root, count):
  homes = [root / f'worker_{index}' for index in range(count)]
  for home in homes:
    home.mkdir()
  return homes


def set_up(repo, root, *arguments, **environment):
  # The port that JAX takes is 61440 + JOB.
  job = str(processes.free_port() % 4096)
  return subprocess.run(
    ['bash', repo / 'tpu_setup.sh', *arguments],
    capture_output=True,
    text=True,
    stdin=subprocess.DEVNULL,
    timeout=200,
    env=processes.environment(2)
    | {
      'PATH': f'{root / "bin"}:{os.environ["PATH"]}',
      'VENV': str(root / 'venv'),
      'SKIP_INSTALL': '1',
      'POLL_SECONDS': '0',
      'JOB': job,
      **environment,
    },
  )


SLICE = ('--tpu=mine', '--zone=here')


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--zone=here'], '--tpu is missing: the name of the slice'),
    (['--tpu=mine'], '--zone is missing'),
    (['--tpu='], '--tpu= has no value'),
    (['--sport'], 'there is no option --sport'),
    (['setup'], 'there is no option setup'),
    ([*SLICE, '--spot'], '--runtime and --spot need --accelerator'),
    ([*SLICE, '--ref=main'], '--ref needs --repo'),
    ([*SLICE, '--bucket=s3://x'], '--bucket is s3://x, but must be gs://NAME'),
    ([*SLICE, '--accelerator=v9-8'], '--accelerator=v9-8 is not known: give'),
  ],
)
def test_wrong_usage(repo, root, arguments, message):
  result = set_up(repo, root, *arguments)
  assert result.returncode == 2, result.stderr
  assert re.fullmatch(r'error: .*; see tpu_setup.sh --help.\n', result.stderr)
  assert message in result.stderr
  assert not (root / 'calls').exists()


def test_help_names_every_option(repo, root):
  result = set_up(repo, root, '--help')
  assert result.returncode == 0
  script = (repo / 'tpu_setup.sh').read_text()
  options = set(re.findall(r'^    (--\w+)(?:=\*)?\)', script, re.M))
  assert len(options) == 9
  for option in options:
    assert option in result.stdout
  assert 'set -euo' not in result.stdout


def test_no_such_tpu(repo, root):
  result = set_up(repo, root, *SLICE)
  assert result.returncode == 1
  assert 'error: there is no TPU mine in here; give --accel' in result.stderr


def test_a_request_that_fails(repo, root):
  wanted = (*SLICE, '--accelerator=v5litepod-16')
  result = set_up(repo, root, *wanted, QUEUE='WAITING_FOR_RESOURCES FAILED')
  assert result.returncode == 1
  assert 'The request for mine is WAITING_FOR_RESOURCES' in result.stdout
  assert 'error: the request for mine is FAILED: look at' in result.stderr


@pytest.mark.scale
def test_two_workers_from_the_request_to_the_sum(repo, root):
  homes = workers(root, 2)
  wanted = (*SLICE, '--accelerator=v5litepod-16', '--spot')
  result = set_up(repo, root, *wanted, QUEUE='CREATING PROVISIONING ACTIVE')
  assert result.returncode == 0, result.stdout + result.stderr
  calls = (root / 'calls').read_text().splitlines()
  (create,) = [call for call in calls if ' create ' in call]
  assert create == (
    'compute tpus queued-resources create mine --node-id=mine '
    '--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite '
    '--spot --zone=here'
  )
  assert 'mine is PROVISIONING; waiting.' in result.stdout
  assert '2 workers have the same versions: python=' in result.stdout
  assert '2 processes and 4 devices (cpu) work together: the sum over all ' in (
    result.stdout
  )
  for home in homes:
    assert (home / 'mobilebert_jax' / 'train.py').is_file()
    lines = (home / 'mobilebert_env.sh').read_text()
    assert f'cd {home}/mobilebert_jax\n' in lines
    assert 'JAX_COMPILATION_CACHE_DIR=' in lines
  # Again: nothing is asked for a second time.
  again = set_up(repo, root, *wanted, QUEUE='never')
  assert again.returncode == 0, again.stdout + again.stderr
  calls = (root / 'calls').read_text().splitlines()
  assert sum(' create ' in call for call in calls) == 1


@pytest.mark.scale
def test_a_worker_with_another_version_is_named(repo, root):
  homes = workers(root, 3)
  other = homes[1] / 'packages' / 'jax-9.9.9.dist-info'
  other.mkdir(parents=True)
  (other / 'METADATA').write_text('Name: jax\nVersion: 9.9.9\n')
  result = set_up(repo, root, *SLICE)
  assert result.returncode == 1
  (line,) = [x for x in result.stderr.splitlines() if x.startswith('error: ')]
  assert 'the workers differ: worker worker_1 has jax=9.9.9 not jax=' in line
  assert 'worker_0' not in line
  assert 'work together' not in result.stdout


def test_a_worker_sets_itself_up(repo, root):
  home = workers(root, 1)[0]
  result = set_up(repo, root, '--bucket=gs://mine/', HOME=str(home))
  assert result.returncode == 0, result.stderr
  assert re.search(r'^worker \S+: python=3\.\d+\.\d+ jax=', result.stdout, re.M)
  assert 'devices: [CpuDevice(id=0), CpuDevice(id=1)]' in result.stdout
  lines = (home / 'mobilebert_env.sh').read_text()
  assert 'export RUNS=gs://mine/runs\n' in lines
  assert 'export JAX_COMPILATION_CACHE_DIR=gs://mine/compiled\n' in lines


def test_the_script_is_clean_bash(repo):
  script = repo / 'tpu_setup.sh'
  subprocess.run(['bash', '-n', script], check=True)
  assert pathlib.Path(script).stat().st_mode & 0o111
