"""Weights & Biases as one more place for metrics; the one module with wandb.

Everything that its client reads from the environment holds: WANDB_MODE=offline
writes below the workdir alone, and `wandb sync` sends it later.
"""

import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.config.run import WandbConfig
from mobilebert_jax.runtime import files, requirements
from mobilebert_jax.runtime.errors import InputError

_ID = 'wandb_id.txt'


def check(settings: WandbConfig):
  """Refuses a project without the package that sends metrics there.

  Raises:
    InputError: wandb is not installed; with the line that installs it.
  """
  if settings.project is not None:
    requirements.load('wandb', 'wandb')


class WandbLog:
  """Sends what is logged to a project of Weights & Biases.

  A run that is continued goes on in the same place: the workdir has its id.
  """

  def __init__(
    self,
    settings: WandbConfig,
    directory: pathlib.Path,
    config: Mapping[str, Any],
  ):
    """Begins, or continues.

    Args:
      settings: the project.
      directory: the workdir.
      config: what is shown of the run, JSON values.

    Raises:
      InputError: its client cannot begin, for instance without a login.
    """
    wandb = requirements.load('wandb', 'wandb')
    path = directory / _ID
    if not path.exists():
      files.write_text(path, uuid.uuid4().hex[:12] + '\n')
    try:
      self._run: Any = wandb.init(
        project=settings.project,
        entity=settings.entity,
        name=settings.name or directory.name,
        id=path.read_text(encoding='utf-8').strip(),
        resume='allow',
        dir=None if files.is_remote(directory) else str(directory),
        config=dict(config),
      )
    # The client has exceptions of many kinds.
    except Exception as error:
      raise InputError(
        f'config.wandb.project={settings.project!r}: Weights & Biases cannot '
        f'begin ({" ".join(str(error).split())}); log in with `wandb login`, '
        'or set WANDB_MODE=offline.'
      ) from None

  def write(self, step: int, values: Mapping[str, float]):
    """Sends the values of a step."""
    self._run.log(dict(values), step=step)

  def close(self):
    """Sends what is left."""
    self._run.finish()
