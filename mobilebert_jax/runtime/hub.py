"""Models on the Hugging Face hub: finding, uploading and describing them.

A model's files are looked for here, on gs://, and else on the hub. The only
module that imports huggingface_hub.
"""

import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError

# Seconds to wait for the hub's first answer; and for which it is then known
# whether there is one.
_TIMEOUT = 10
_PAUSE = 60
# Address of a hub -> when it was asked, and whether it answered.
_answers: dict[str, tuple[float, bool]] = {}
# 'name' or 'owner/name', as the hub allows them.
_HUB_NAME = re.compile(r'[\w-][\w.-]*(/[\w-][\w.-]*)?')


def is_hub_name(name: str | os.PathLike[str]) -> bool:
  """Returns whether a model on the hub may be called so."""
  return _HUB_NAME.fullmatch(str(name)) is not None


def local_directory(
  name_or_path: str | os.PathLike[str], subfolder: str = ''
) -> pathlib.Path | None:
  """Returns the directory that a name stands for, None for one on the hub.

  Args:
    name_or_path: a directory, also on gs://; a file in it; or the prefix of a
      TensorFlow checkpoint, which is not a file itself.
    subfolder: a directory below it.

  Raises:
    InputError: the subfolder is missing, or the name can neither be a path
      that exists nor a name on the hub.
  """
  path = files.path(name_or_path)
  if path.is_dir():
    directory = path / subfolder
    if not directory.is_dir():
      raise InputError(f'{path} has no subfolder {subfolder!r}.')
    return directory
  if path.is_file() or path.with_name(f'{path.name}.index').is_file():
    return path.parent
  if not is_hub_name(name_or_path):
    raise InputError(
      f'{name_or_path} does not exist; give a directory, a weights file, or '
      "a name on the Hugging Face hub such as 'google/mobilebert-uncased'."
    )
  return None


def resolve(
  name_or_path: str | os.PathLike[str],
  filenames: Sequence[str],
  *,
  revision: str | None = None,
  token: str | bool | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  local_files_only: bool = False,
  subfolder: str = '',
) -> dict[str, pathlib.Path]:
  """Finds those files that the model has, and returns their local paths.

  Args:
    name_or_path: a directory, also on gs://, a file in it, or a name on the
      hub.
    filenames: the files wanted; each may be missing.
    revision: branch, tag or commit on the hub; None is its main branch.
    token: access token; True or None is the one that `hf auth login` stored.
    cache_dir: where downloads are kept; None is huggingface_hub's own place.
    local_files_only: do not use the network, only what was downloaded before.
    subfolder: directory inside the model.

  Returns:
    file name -> path, without those that the model does not have. From a hub
    that cannot be reached, files that were never downloaded count as missing.

  Raises:
    InputError: no such model, revision or subfolder; no right to read it; or
      the hub cannot be reached and nothing of the model was downloaded before.
  """
  directory = local_directory(name_or_path, subfolder)
  if directory is not None:
    there = [name for name in filenames if (directory / name).is_file()]
    if there:
      directory = local_copies.directory(directory, there.__contains__)
    return {name: directory / name for name in there}
  options: dict[str, Any] = {
    'revision': revision,
    'token': token,
    'cache_dir': cache_dir,
    'local_files_only': local_files_only,
    'subfolder': subfolder or None,
  }
  result = {}
  unknown = []
  if filenames and not local_files_only:
    options['local_files_only'] = not _is_reachable(
      str(name_or_path), filenames[0], options
    )
  for filename in filenames:
    path, is_known = _download(str(name_or_path), filename, options)
    if path is not None:
      result[filename] = path
    elif not is_known:
      unknown.append(filename)
      # huggingface_hub waits long for a hub that is down: once is enough.
      options['local_files_only'] = True
  if not unknown or result:
    return result
  reason = (
    'local_files_only is set'
    if local_files_only
    else 'the hub cannot be reached'
  )
  if not _is_cached(str(name_or_path), cache_dir):
    raise InputError(
      f'{name_or_path} is no local directory and was never downloaded, and '
      f'{reason}; give a local directory or allow the download.'
    )
  if not _is_cached(str(name_or_path), cache_dir, revision or 'main'):
    raise InputError(
      f'the revision {revision or "main"!r} of {name_or_path} was never '
      f'downloaded, though another one was, and {reason}; name that one, or '
      'allow the download.'
    )
  return result


def _is_reachable(repo: str, filename: str, options: Mapping[str, Any]) -> bool:
  """Returns whether the hub answers, after one attempt.

  huggingface_hub itself would ask six times for each file, for half a minute.
  The result counts for a while.
  """
  import huggingface_hub
  from huggingface_hub import constants, errors

  endpoint = os.environ.get('HF_ENDPOINT') or constants.ENDPOINT
  asked, answered = _answers.get(endpoint, (-_PAUSE, False))
  if time.monotonic() - asked < _PAUSE:
    return answered
  answered = True
  try:
    url = huggingface_hub.hf_hub_url(
      repo,
      filename,
      subfolder=options['subfolder'],
      revision=options['revision'],
      endpoint=endpoint,
    )
    huggingface_hub.get_hf_file_metadata(
      url, token=options['token'], timeout=_TIMEOUT
    )
  except (errors.HfHubHTTPError, errors.HFValidationError, ValueError):
    # It answers; what, is told by the download.
    pass
  except errors.FileMetadataError:
    pass
  except _transport_errors():
    answered = False
  _answers[endpoint] = time.monotonic(), answered
  return answered


def _download(
  repo: str, filename: str, options: dict[str, Any]
) -> tuple[pathlib.Path | None, bool]:
  """Downloads a file of a model.

  Returns:
    Its path, or None; and whether the hub itself said that there is none.
  """
  import huggingface_hub
  from huggingface_hub import errors

  revision = options['revision'] or 'main'
  try:
    path = huggingface_hub.hf_hub_download(
      repo, filename, endpoint=os.environ.get('HF_ENDPOINT'), **options
    )
  except errors.GatedRepoError:
    raise InputError(
      f'{repo} is gated: ask for access on its page, then pass token= or run '
      '`hf auth login`.'
    ) from None
  except errors.RepositoryNotFoundError:
    raise InputError(
      f'{repo} is neither a local directory nor a model that the hub shows '
      'to you; check the name, or pass token= if it is private.'
    ) from None
  except errors.RevisionNotFoundError:
    raise InputError(f'{repo} has no revision {revision!r}.') from None
  except errors.LocalEntryNotFoundError:
    return None, False
  except errors.EntryNotFoundError:
    return None, True
  except errors.HFValidationError as error:
    raise InputError(
      f'{repo!r} is no name on the hub: {str(error).rstrip(".")}.'
    ) from None
  except _transport_errors() as error:
    raise InputError(
      f'cannot download {repo}/{filename}: {_reason(error)}.'
    ) from None
  return pathlib.Path(path), True


def _is_cached(
  repo: str,
  cache_dir: str | os.PathLike[str] | None,
  revision: str | None = None,
) -> bool:
  """Returns whether any file of the model was downloaded before.

  Args:
    repo: the model.
    cache_dir: where downloads are kept.
    revision: of this branch, tag or commit; None: of any.
  """
  from huggingface_hub import constants

  root = pathlib.Path(cache_dir or constants.HF_HUB_CACHE)
  directory = root / f'models--{repo.replace("/", "--")}'
  snapshots = directory / 'snapshots'
  if revision is None:
    return snapshots.is_dir() and any(snapshots.iterdir())
  return (directory / 'refs' / revision).is_file() or (
    snapshots / revision
  ).is_dir()


def check_upload(repo: str, token: str | bool | None = None):
  """Refuses an upload that cannot succeed, before there is anything to upload.

  Args:
    repo: 'owner/name', or a name of one's own.
    token: see `upload`.

  Raises:
    InputError: a wrong name, or no token.
  """
  if not is_hub_name(repo):
    raise InputError(
      f'{str(repo)!r} is no name on the hub; give owner/name, such as '
      "'anna/mobilebert-reviews'."
    )
  import huggingface_hub

  if not isinstance(token, str) and huggingface_hub.get_token() is None:
    raise InputError(
      f'uploading to {repo} needs an access token with the right to write; run '
      '`hf auth login`, or set HF_TOKEN.'
    )


def upload(
  directory: str | os.PathLike[str],
  repo: str,
  *,
  private: bool | None = None,
  revision: str | None = None,
  token: str | bool | None = None,
  commit_message: str | None = None,
) -> str:
  """Uploads a directory as one commit to a model on the hub.

  Files of the same names are replaced; others that the model has stay.

  Args:
    directory: a local directory.
    repo: 'owner/name', or a name of one's own; made if it is not there.
    private: whether a new model is shown to its owner alone; None is the
      account's default.
    revision: a branch, made if it is not there; None is the main branch.
    token: access token with the right to write; True or None is the one that
      `hf auth login` stored.
    commit_message: its first line.

  Returns:
    The model's address.

  Raises:
    InputError: no directory, a wrong name, no token, no right to write, or the
      hub cannot be reached.
  """
  source = pathlib.Path(directory)
  if not source.is_dir() or not any(source.iterdir()):
    raise InputError(f'{source} holds no files to upload to the hub.')
  check_upload(repo, token)
  import huggingface_hub
  from huggingface_hub import errors

  api = huggingface_hub.HfApi(endpoint=os.environ.get('HF_ENDPOINT'))
  try:
    url = api.create_repo(repo, private=private, exist_ok=True, token=token)
    if revision is not None:
      api.create_branch(
        url.repo_id, branch=revision, exist_ok=True, token=token
      )
    api.upload_folder(
      repo_id=url.repo_id,
      folder_path=source,
      revision=revision,
      token=token,
      commit_message=commit_message or 'Upload by mobilebert_jax',
    )
  except errors.HFValidationError as error:
    raise InputError(
      f'{repo!r} is no name on the hub: {_reason(error)}.'
    ) from None
  except errors.HfHubHTTPError as error:
    status = getattr(error.response, 'status_code', None)
    if status in (401, 403):
      problem = (
        'the hub does not accept the token' if status == 401 else
        'the token has no right to write there'
      )  # fmt: skip
      raise InputError(
        f'cannot upload to {repo}: {problem}; make one with the right to '
        'write, and run `hf auth login` or set HF_TOKEN.'
      ) from None
    raise InputError(f'cannot upload to {repo}: {_reason(error)}.') from None
  except ValueError as error:
    # Of the model card's metadata: the reasons are in the lines below.
    reason = ' '.join(str(error).split()).rstrip('.')
    raise InputError(f'cannot upload to {repo}: {reason}.') from None
  except _transport_errors() as error:
    raise InputError(
      f'cannot upload to {repo}: the hub cannot be reached ({_reason(error)}).'
    ) from None
  return str(url)


def card_metadata(
  values: Mapping[str, Any], results: Sequence[Mapping[str, Any]] = ()
) -> str:
  """Returns the YAML at the head of a model card, as the hub reads it.

  Args:
    values: its fields, such as `library_name`, `tags` and `base_model`; None
      is left out.
    results: arguments of `huggingface_hub.EvalResult`, a score each.
  """
  import huggingface_hub

  fields = {name: value for name, value in values.items() if value is not None}
  if results:
    fields['eval_results'] = [
      huggingface_hub.EvalResult(**result) for result in results
    ]
  data = huggingface_hub.ModelCardData(**fields)
  return data.to_yaml(line_break='\n')


def _transport_errors() -> Any:
  """Returns the errors of the way to the hub: a proxy's, a broken stream's.

  They are bases of huggingface_hub's own, whichever HTTP library this release
  is built on.
  """
  from huggingface_hub import errors

  return (*errors.HfHubHTTPError.__bases__, OSError)


def _reason(error: Exception) -> str:
  """Returns the first line of an error, without its full stop."""
  reason = (str(error).strip() or type(error).__name__).splitlines()[0]
  return reason.rstrip('.')
