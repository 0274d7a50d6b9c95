"""The directory of a run: its files, and whether it may be used."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.config import continuing, model_json
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.inference.quantized_model import Constants
from mobilebert_jax.runtime import files, lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import environment

# All that a start can leave behind that did not come to its end.
_HALF_STARTED = (
  'config.json',
  'model_config.json',
  'method.json',
  'quantization.json',
  'environment.json',
  'tokenizer',
  lock.NAME,
)


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Names of everything that a run writes.

  `model_config.json`, `tokenizer/`, `method.json` if the method has a record,
  `quantization.json` of a quantised run, `environment.json`, and then
  `config.json` are written at
  the start, when all input has been checked. With `config.json` a workdir can
  be continued, without the checkpoint that the run began from; without it,
  there is nothing to lose.
  """

  path: pathlib.Path

  @property
  def config(self) -> pathlib.Path:
    """The resolved TrainConfig."""
    return self.path / 'config.json'

  @property
  def model_config(self) -> pathlib.Path:
    """The model's config, in transformers' format."""
    return self.path / 'model_config.json'

  @property
  def method(self) -> pathlib.Path:
    """The method's record (`Method.record`); only if it has one."""
    return self.path / 'method.json'

  @property
  def quantization(self) -> pathlib.Path:
    """What a quantised model computes with (`Constants`); only if it is one."""
    return self.path / 'quantization.json'

  @property
  def environment(self) -> pathlib.Path:
    """What decides the bits beside the config; see `environment.record`."""
    return self.path / 'environment.json'

  @property
  def tokenizer(self) -> pathlib.Path:
    """Directory of the run's tokenizer."""
    return self.path / 'tokenizer'

  @property
  def checkpoints(self) -> pathlib.Path:
    """Directory with one checkpoint for each saved step."""
    return self.path / 'checkpoints'

  @property
  def model(self) -> pathlib.Path:
    """The best weights as a transformers directory."""
    return self.path / 'model'

  @property
  def metrics(self) -> pathlib.Path:
    """One JSON line for each logged step and each evaluation."""
    return self.path / 'metrics.jsonl'

  @property
  def curves(self) -> pathlib.Path:
    """Loss and score as a picture."""
    return self.path / 'curves.png'

  @property
  def report(self) -> pathlib.Path:
    """What was learnt, for people: scores, pictures, worst mistakes."""
    return self.path / 'report.md'

  @property
  def pictures(self) -> pathlib.Path:
    """Directory of the report's pictures."""
    return self.path / 'report'

  @property
  def profile(self) -> pathlib.Path:
    """Traces of the steps of `config.profile.steps`."""
    return self.path / 'profile'

  @property
  def predictions(self) -> pathlib.Path:
    """Directory of prediction files."""
    return self.path / 'predictions'

  @property
  def results(self) -> pathlib.Path:
    """First, final and best scores; written last."""
    return self.path / 'results.json'

  def is_started(self, config: TrainConfig) -> bool:
    """Returns whether this run has been started here before.

    Raises:
      InputError: the directory is a file, holds other things, or a run with
        another config.
    """
    if not self.path.exists():
      return False
    if not self.path.is_dir():
      raise InputError(f'{self.path} is a file, but must be a directory.')
    if not self.config.exists():
      if not self._is_free():
        raise InputError(
          f'{self.path} is not empty and holds no run (no config.json); '
          'choose another --workdir.'
        )
      return False
    before = self.read_config()
    wrong = continuing.differences(before, config)
    if wrong:
      advice = 'choose another --workdir, or the old values'
      if continuing.differ_in_length(before, config):
        advice = f'{advice}. {self._length_advice(before)}'
      raise InputError(
        f'{self.path} was made by another config: {"; ".join(wrong)}; {advice}.'
      )
    return True

  def is_shorter(self, config: TrainConfig) -> bool:
    """Returns whether the run here may go on to the length of this config.

    Raises:
      InputError: the config of the run cannot be read.
    """
    if not self.config.exists():
      return False
    return continuing.is_longer(self.read_config(), config)

  def extend(self, config: TrainConfig):
    """Gives the run its new length, from where it stands.

    Args:
      config: `is_shorter` has said that it may.
    """
    # In this order: a kill between the two leaves a run that is not finished.
    self.results.unlink(missing_ok=True)
    files.write_text(self.config, run_config.to_json(config))

  def _length_advice(self, before: TrainConfig) -> str:
    reason = continuing.fixed_length(before)
    if reason is None:
      return 'It can be made longer, but not shorter'
    return (
      f'It cannot be made longer, since {reason}; to train its best weights '
      f'further, begin another run with --config.init={self.model}'
    )

  def finished_line(self, results: Mapping[str, Any]) -> str:
    """Returns what to say where a finished run is started once more.

    Args:
      results: what `results.json` holds.
    """
    before = self.read_config()
    name = 'num_epochs' if before.num_steps is None else 'num_steps'
    way = f'a larger config.{name} trains it further'
    if continuing.fixed_length(before) is not None:
      way = (
        f'to train its weights further, begin another run with '
        f'--config.init={self.model}'
      )
    return (
      f'{self.path} is finished (step {results["final"]["step"]:,}); nothing '
      f'was done: {way}.'
    )

  def read_config(self) -> TrainConfig:
    """The config of the run that was started here."""
    return run_config.from_json(_read(self.config), str(self.config))

  def read_model_config(self) -> MobileBertConfig:
    """The model's config."""
    return model_json.load_config(self.model_config)

  def read_tokenizer(self) -> MobileBertTokenizerFast:
    """The tokenizer."""
    return MobileBertTokenizerFast.from_pretrained(self.tokenizer)

  def _is_free(self) -> bool:
    """Returns whether there is nothing, or what a killed start has left."""
    names = [path.name for path in self.path.iterdir()]
    return not names or (
      (lock.NAME in names or files.is_remote(self.path))
      and all(name.startswith(_HALF_STARTED) for name in names)
    )

  def read_method(self) -> dict[str, Any]:
    """The record of the method that the run began with; {} if it has none."""
    return json.loads(_read(self.method)) if self.method.exists() else {}

  def check_environment(self, now: Mapping[str, Any]) -> list[str]:
    """Compares what decides the bits with what the run began with.

    Args:
      now: see `environment.record`.

    Returns:
      What differs and may; [] also for a run that has no record of it.

    Raises:
      InputError: what may not differ.
    """
    if not self.environment.exists():
      return []
    before = environment.read(_read(self.environment), self.environment)
    return environment.compare(before, now, self.environment)

  def read_quantization(self) -> Constants | None:
    """What the run's model is served with; None: it is not quantised."""
    if not self.quantization.exists():
      return None
    return Constants.from_json(json.loads(_read(self.quantization)))

  def start(
    self,
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    method: Mapping[str, Any],
    surroundings: Mapping[str, Any],
    constants: Constants | None = None,
  ):
    """Writes what is needed to continue; `config.json` last.

    Args:
      config: the run.
      model: the model.
      tokenizer: the tokenizer.
      method: JSON values, the method's record.
      surroundings: JSON values, see `environment.record`.
      constants: of a quantised model.
    """
    self.path.mkdir(parents=True, exist_ok=True)
    architecture = model_json.to_dict(
      model.config, architectures=(type(model).__name__,)
    )
    files.write_json(self.model_config, architecture)
    tokenizer.save_pretrained(self.tokenizer)
    if method:
      files.write_json(self.method, method)
    if constants is not None:
      files.write_json(self.quantization, constants.to_json())
    files.write_json(self.environment, surroundings)
    files.write_text(self.config, run_config.to_json(config))

  def read_results(self) -> dict[str, Any] | None:
    """The scores of a finished run; None while it is not finished."""
    return json.loads(_read(self.results)) if self.results.exists() else None


def is_workdir(path: pathlib.Path) -> bool:
  """Returns whether a directory is that of a run, even one that has just begun.

  A transformers directory has a `config.json` as well, but no
  `model_config.json`, which is the first file that a run writes.
  """
  return Workdir(path).model_config.is_file()


def of_run(path: pathlib.Path) -> Workdir | None:
  """Returns the workdir of the run that a path is of; None: it is of none.

  Args:
    path: a workdir, its model/, or one of its checkpoints.
  """
  candidates = [path]
  if path.name == 'model':
    candidates.append(path.parent)
  if path.parent.name == 'checkpoints':
    candidates.append(path.parent.parent)
  runs = (Workdir(place) for place in candidates if is_workdir(place))
  return next((run for run in runs if run.config.is_file()), None)


def best_model(name: str) -> str:
  """Returns the best model of a run where `name` is its workdir; else `name`.

  Raises:
    InputError: a run that has not saved a model yet.
  """
  path = files.path(name)
  if not is_workdir(path):
    return name
  model = Workdir(path).model
  if not model.is_dir():
    raise InputError(
      f'{path} is a run that has no model/ yet; let it come to an evaluation '
      'first.'
    )
  return str(model)


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path} cannot be read: {error}.') from None
