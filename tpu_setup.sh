#!/usr/bin/env bash
# Installs this project on a Cloud TPU VM; safe to run again.
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command='git clone URL mobilebert_jax && bash mobilebert_jax/tpu_setup.sh'
#
# VENV   where the virtual environment goes (default: ~/mobilebert_venv)
# PYTHON which Python makes it            (default: the newest of 3.13, 3.12, 3.11)
set -euo pipefail

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${VENV:-$HOME/mobilebert_venv}"
python="${PYTHON:-}"

if [[ -z "$python" ]]; then
  for candidate in python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
      python="$candidate"
      break
    fi
  done
fi
if [[ -z "$python" ]]; then
  echo 'error: no Python of at least 3.11 found; install one, or set PYTHON.' >&2
  exit 2
fi

if [[ ! -x "$venv/bin/python" ]]; then
  echo "Making $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --upgrade pip
# jax[tpu] brings libtpu; gcsfs lets checkpoints go to gs:// buckets.
"$venv/bin/python" -m pip install --quiet --editable "$repo[${EXTRAS:-tpu}]"

"$venv/bin/python" - <<'PYTHON'
import importlib.metadata as metadata
import sys

print('python', sys.version.split()[0])
for name in (
  'mobilebert_jax', 'jax', 'jaxlib', 'libtpu', 'flax', 'optax',
  'orbax-checkpoint', 'grain', 'tensorflow-datasets',
):
  try:
    print(name, metadata.version(name))
  except metadata.PackageNotFoundError:
    print(name, 'not installed')
PYTHON

if [[ "${SKIP_DEVICES:-}" != 1 ]]; then
  # On a slice of several hosts this waits for all of them: run it on each.
  "$venv/bin/python" -c 'import jax; print("devices:", jax.devices())'
fi
echo "Ready. Activate with: source $venv/bin/activate"
