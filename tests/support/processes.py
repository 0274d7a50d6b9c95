"""Runs a command as several processes on this machine, as several hosts would.

They find each other on the loopback; collectives go through gloo. Each has a
number of CPU devices of its own.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence


@dataclasses.dataclass
class Host:
  """One of the processes."""

  process: subprocess.Popen
  output: pathlib.Path

  def text(self) -> str:
    """What it has printed so far, stderr included."""
    return self.output.read_text(errors='replace')


@contextlib.contextmanager
def started(
  command: Sequence[str | os.PathLike],
  directory: pathlib.Path,
  count: int,
  devices: int = 2,
  env: dict[str, str] | None = None,
  own: Sequence[Sequence[str]] = (),
) -> Iterator[list[Host]]:
  """Starts `command` as `count` processes; kills what is left at the end.

  Args:
    command: what to run behind `python`; the flags for the processes are added.
    directory: where their output goes, one file for each.
    count: how many; with one, no flags are added.
    devices: of each process.
    env: more environment variables.
    own: more arguments, for each process its own.
  """
  address = f'127.0.0.1:{free_port()}'
  directory.mkdir(parents=True, exist_ok=True)
  hosts = []
  try:
    for index in range(count):
      output = directory / f'process_{index}.txt'
      flags = [
        f'--coordinator_address={address}',
        f'--num_processes={count}',
        f'--process_id={index}',
      ]
      mine = [*(flags if count > 1 else []), *(own[index] if own else [])]
      with output.open('w') as file:
        process = subprocess.Popen(
          [sys.executable, *command, *mine],
          stdout=file,
          stderr=subprocess.STDOUT,
          stdin=subprocess.DEVNULL,
          env=environment(devices) | (env or {}),
        )
      hosts.append(Host(process, output))
    yield hosts
  finally:
    for host in hosts:
      host.process.kill()
      host.process.wait()


def run(
  command: Sequence[str | os.PathLike],
  directory: pathlib.Path,
  count: int,
  devices: int = 2,
  status: int = 0,
  timeout: float = 240,
  env: dict[str, str] | None = None,
  own: Sequence[Sequence[str]] = (),
) -> list[str]:
  """Runs to the end, and returns what each process has printed.

  Raises:
    AssertionError: another exit status than `status`, with all output.
  """
  with started(command, directory, count, devices, env, own) as hosts:
    statuses = wait(hosts, timeout)
    assert statuses == [status] * count, told(hosts)
    return [host.text() for host in hosts]


def wait(hosts: Sequence[Host], timeout: float) -> list[int]:
  """The exit statuses.

  Raises:
    AssertionError: some still run after `timeout` seconds.
  """
  end = time.monotonic() + timeout
  statuses = []
  for host in hosts:
    try:
      statuses.append(host.process.wait(max(end - time.monotonic(), 0.1)))
    except subprocess.TimeoutExpired:
      raise AssertionError(
        f'still running after {timeout} s\n{told(hosts)}'
      ) from None
  return statuses


def wait_for_text(host: Host, pattern: str, timeout: float):
  """Waits until a process has printed a line.

  Raises:
    AssertionError: it has ended, or not printed it after `timeout` seconds.
  """
  end = time.monotonic() + timeout
  while not re.search(pattern, host.text(), re.M):
    assert host.process.poll() is None, host.text()
    assert time.monotonic() < end, host.text()
    time.sleep(0.02)


def told(hosts: Sequence[Host]) -> str:
  """All output, for a failing test."""
  return '\n'.join(
    f'--- process {index}, status {host.process.poll()}\n{host.text()}'
    for index, host in enumerate(hosts)
  )


def environment(devices: int) -> dict[str, str]:
  """The environment of one process; a proxy must not see the loopback."""
  kept = {k: v for k, v in os.environ.items() if 'proxy' not in k.lower()}
  return kept | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(devices),
    'MPLBACKEND': 'Agg',
    'PYTHONUNBUFFERED': '1',
  }


def free_port() -> int:
  """A port that nobody listens on."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]
