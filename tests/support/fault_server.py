"""Starts runs of train.py quickly: imports everything once, forks each run.

Reads one JSON object a line: 'argv', 'output' (a file), 'codes' (run in the
child first). Answers with the process id, and with the exit status when it
has ended. No device or thread of JAX exists before a fork.
"""

import importlib
import json
import os
import signal
import sys
import traceback

# What a run imports lazily.
_MODULES = (
  'mobilebert_jax.launch', 'orbax.checkpoint', 'grain', 'tensorboardX',
  'matplotlib.pyplot', 'sklearn.metrics', 'scipy.stats', 'tqdm',
  'tokenizers', 'safetensors.numpy',
)  # fmt: skip


def main():
  import train

  for name in _MODULES:
    importlib.import_module(name)
  from jax._src import xla_bridge

  assert not xla_bridge.backends_are_initialized()
  for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
      _run(train, job)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)


def _run(train, job):
  """The child; it never returns."""
  file = os.open(job['output'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  nothing = os.open(os.devnull, os.O_RDONLY)
  for old, new in ((nothing, 0), (file, 1), (file, 2)):
    os.dup2(old, new)
  sys.stdin = open(0)
  sys.stdout = open(1, 'w', buffering=1)
  sys.stderr = open(2, 'w', buffering=1)
  sys.argv = ['train.py', *job['argv']]
  # A shell that starts the tests in the background has it ignored.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    from mobilebert_jax.runtime import exit_status

    def start(argv):
      # Here: SIGTERM is already handled, as behind train.py's imports.
      for code in job['codes']:
        exec(code, {})
      train.main(argv)

    status = exit_status.run(start, continues=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # As at a normal end: what was registered with atexit.
    import atexit

    atexit._run_exitfuncs()
  except BaseException:
    traceback.print_exc()
    status = 99
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


if __name__ == '__main__':
  main()
