#!/usr/bin/env bash
# Sets up every worker of a Cloud TPU slice, and proves that the slice works.
# Safe to run again at any time.
#
# From your own machine (with gcloud), for all workers:
#   tpu_setup.sh --tpu=NAME --zone=ZONE [options]
#
#   --project=ID         the Google Cloud project; gcloud's own by default
#   --accelerator=TYPE   first asks for the slice through queued resources, such
#                        as v5litepod-16, and waits until it is there
#   --runtime=VERSION    its software; by default what belongs to the type
#   --spot               a Spot slice: cheaper, and may be taken away
#   --bucket=gs://NAME   for runs, data sets and compiled programs
#   --repo=URL           workers clone this; by default they get a copy of the
#                        files that git knows in this checkout
#   --ref=NAME           the branch, tag or commit of --repo
#
# On a worker, or on any machine, for itself alone:
#   tpu_setup.sh [--bucket=gs://NAME]
#
# Variables: VENV    the virtual environment      (default: ~/mobilebert_venv)
#            PYTHON  which Python makes it (default: the newest of 3.13 to 3.11)
#            EXTRAS  extras of the package                   (default: tpu)
#            SKIP_INSTALL=1  VENV is there, and has everything
#            SKIP_DEVICES=1  does not look at the devices of a worker
#            POLL_SECONDS    between two looks at a queue  (default: 30)
#
# Exit status: 0; 2 wrong usage; 1 anything else that failed, with a sentence.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here

wrong() {
  echo "error: $1; see $(basename "$0") --help." >&2
  exit 2
}

fail() {
  echo "error: $1" >&2
  exit 1
}

usage() {
  sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

# --- One worker -------------------------------------------------------------

find_python() {
  local candidate
  if [[ -n "${PYTHON:-}" ]]; then
    echo "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo 'error: no Python of at least 3.11 found; install one, or set PYTHON.' >&2
  exit 2
}

install_packages() {
  local venv="$1" python
  if [[ ! -x "$venv/bin/python" ]]; then
    python="$(find_python)"
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  # jax[tpu] brings libtpu; gcsfs lets everything go to gs:// buckets.
  "$venv/bin/python" -m pip install --quiet --editable "${here}[${EXTRAS:-tpu}]"
}

# What every command on this worker needs, in one file to be sourced.
write_environment() {
  local venv="$1" bucket="$2" file="$HOME/mobilebert_env.sh"
  {
    echo '# Written by tpu_setup.sh.'
    printf 'source %q\n' "$venv/bin/activate"
    printf 'cd %q\n' "$here"
    if [[ -n "$bucket" ]]; then
      # Shared by all hosts: process 0 writes it, the others read it.
      printf 'export JAX_COMPILATION_CACHE_DIR=%q\n' "$bucket/compiled"
      printf 'export TFDS_DATA_DIR=%q\n' "$bucket/tensorflow_datasets"
      printf 'export RUNS=%q\n' "$bucket/runs"
    else
      printf 'export JAX_COMPILATION_CACHE_DIR=%q\n' \
        "$HOME/.cache/mobilebert_jax/compiled"
      printf 'export RUNS=%q\n' "$here/runs"
    fi
  } >"$file.partial"
  mv "$file.partial" "$file"
}

print_versions() {
  local versions
  versions="$("$1/bin/python" -c '
from mobilebert_jax import check_slice
print(*(f"{k}={v}" for k, v in check_slice.versions().items()))
')"
  # One line: tpu_setup.sh compares those of all workers.
  echo "worker ${WORKER_NAME:-$(hostname)}: $versions"
}

set_up_this_worker() {
  local bucket="$1" venv="${VENV:-$HOME/mobilebert_venv}"
  # In its parent, the checkout would hide the package of the same name.
  cd "$here"
  if [[ "${SKIP_INSTALL:-}" != 1 ]]; then
    install_packages "$venv"
  fi
  write_environment "$venv" "$bucket"
  print_versions "$venv"
  if [[ "${SKIP_DEVICES:-}" != 1 ]]; then
    # On a slice of several hosts this waits for all of them: run it on each.
    "$venv/bin/python" -c 'import jax; print("devices:", jax.devices())'
  fi
  echo "Ready. Begin with: source $HOME/mobilebert_env.sh"
}

# --- All workers of a slice -------------------------------------------------

tpus() {
  gcloud compute tpus "$@" --zone="$zone" ${project:+--project="$project"}
}

on_all_workers() {
  tpus tpu-vm ssh "$tpu" --worker=all --batch-size=all --command="$1"
}

default_runtime() {
  case "$1" in
    v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) wrong "the software of --accelerator=$1 is not known: give --runtime" ;;
  esac
}

queue_state() {
  tpus queued-resources describe "$tpu" --format='value(state.state)' \
    2>/dev/null || true
}

# Asks for the slice, unless that has been done, and waits for it.
obtain() {
  local state told=''
  state="$(queue_state)"
  if [[ -z "$state" ]]; then
    tpus queued-resources create "$tpu" --node-id="$tpu" \
      --accelerator-type="$accelerator" --runtime-version="$runtime" \
      ${spot:+--spot} || fail "the slice $tpu could not be asked for."
    state="$(queue_state)"
  fi
  while [[ "$state" != ACTIVE ]]; do
    case "$state" in
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        fail "the request for $tpu is $state: look at 'gcloud compute tpus\
 queued-resources describe $tpu --zone=$zone', then delete it with\
 'gcloud compute tpus queued-resources delete $tpu --zone=$zone --force' and\
 run this again."
        ;;
    esac
    if [[ "$state" != "$told" ]]; then
      echo "The request for $tpu is ${state:-not there yet}; waiting."
      told="$state"
    fi
    sleep "${POLL_SECONDS:-30}"
    state="$(queue_state)"
  done
  echo "The slice $tpu is there."
}

count_workers() {
  local count
  count="$(tpus tpu-vm describe "$tpu" \
    --format='value(networkEndpoints.len())')" ||
    fail "there is no TPU $tpu in $zone; give --accelerator to ask for it."
  [[ "$count" =~ ^[1-9][0-9]*$ ]] ||
    fail "gcloud does not say how many workers $tpu has, but: $count"
  echo "$count"
}

send_code() {
  if [[ -n "$repo" ]]; then
    local checkout
    checkout="$(printf 'test -d mobilebert_jax/.git || git clone --quiet %q \
mobilebert_jax && cd mobilebert_jax && git fetch --quiet origin %q && \
git checkout --quiet --force FETCH_HEAD' "$repo" "${ref:-HEAD}")"
    on_all_workers "$checkout" || fail "$repo could not be cloned everywhere."
    return
  fi
  local archive="$temporary/mobilebert_jax.tar.gz"
  git -C "$here" ls-files -z --cached |
    tar -czf "$archive" -C "$here" --null --files-from=-
  tpus tpu-vm scp "$archive" "$tpu:mobilebert_jax.tar.gz" --worker=all \
    --batch-size=all || fail "the code could not be copied to all workers."
  on_all_workers 'mkdir -p mobilebert_jax && tar -xzf mobilebert_jax.tar.gz \
-C mobilebert_jax' || fail "the code could not be unpacked on all workers."
}

# What of our variables the workers must know.
passed_on() {
  local name
  for name in VENV PYTHON EXTRAS SKIP_INSTALL; do
    if [[ -n "${!name:-}" ]]; then
      printf '%s=%q ' "$name" "${!name}"
    fi
  done
}

# Fails with the workers that differ from what most have.
compare_versions() {
  local log="$1" count="$2" lines usual different
  lines="$(sed -n 's/^.*worker \([^ :]*\): \(python=.*\)$/\1 \2/p' "$log" |
    sort -u)"
  if [[ "$(grep -c . <<<"$lines")" != "$count" ]]; then
    fail "$(grep -c . <<<"$lines") of $count workers have told their versions."
  fi
  usual="$(cut -d' ' -f2- <<<"$lines" | sort | uniq -c | sort -rn | head -1 |
    sed 's/^ *[0-9]* //')"
  different="$(awk -v usual="$usual" '{
    name = $1; sub(/^[^ ]* /, ""); if ($0 == usual) next
    told = ""; split(usual, wanted, " "); split($0, found, " ")
    for (i = 1; i in wanted; i++)
      if (wanted[i] != found[i]) told = told " " found[i] " not " wanted[i] ";"
    print "worker " name " has" told
  }' <<<"$lines")"
  if [[ -n "$different" ]]; then
    fail "the workers differ: $different delete the virtual environment there,\
 and run this again."
  fi
  echo "$count workers have the same versions: $usual"
}

set_up_all() {
  command -v gcloud >/dev/null ||
    fail 'gcloud is not here; install it: https://cloud.google.com/sdk'
  temporary="$(mktemp -d)"
  trap 'rm -rf "$temporary"' EXIT
  if [[ -n "$accelerator" ]]; then
    obtain
  fi
  local count
  count="$(count_workers)"
  echo "Setting up $count workers of $tpu."
  send_code
  on_all_workers "$(passed_on)SKIP_DEVICES=1 bash mobilebert_jax/tpu_setup.sh\
${bucket:+ --bucket=$bucket}" 2>&1 | tee "$temporary/log" ||
    fail "not every worker of $tpu could be set up; see above."
  compare_versions "$temporary/log" "$count"
  # The proof: one program on all hosts, and a sum over all devices.
  on_all_workers "source mobilebert_env.sh && python -m\
 mobilebert_jax.check_slice --processes=$count${bucket:+ --workdir=$bucket/runs}" ||
    fail "the workers of $tpu do not work together; see above."
  echo "Ready. On all workers: source mobilebert_env.sh && python train.py ..."
}

# --- Command line -----------------------------------------------------------

tpu='' zone='' project='' accelerator='' runtime='' spot='' bucket='' repo=''
ref=''
for argument in "$@"; do
  value="${argument#*=}"
  case "$argument" in
    -h | --help)
      usage
      exit 0
      ;;
    --spot) spot=1 ;;
    --*=) wrong "$argument has no value" ;;
    --tpu=*) tpu="$value" ;;
    --zone=*) zone="$value" ;;
    --project=*) project="$value" ;;
    --accelerator=*) accelerator="$value" ;;
    --runtime=*) runtime="$value" ;;
    --bucket=*) bucket="${value%/}" ;;
    --repo=*) repo="$value" ;;
    --ref=*) ref="$value" ;;
    *) wrong "there is no option $argument" ;;
  esac
done
if [[ -n "$bucket" && ! "$bucket" =~ ^gs://[a-z0-9][a-z0-9._/-]+$ ]]; then
  wrong "--bucket is $bucket, but must be gs://NAME"
fi
if [[ -n "$ref" && -z "$repo" ]]; then
  wrong '--ref needs --repo'
fi
if [[ -z "$tpu" ]]; then
  if [[ -n "$zone$project$accelerator$runtime$spot$repo" ]]; then
    wrong '--tpu is missing: the name of the slice'
  fi
  set_up_this_worker "$bucket"
  exit 0
fi
if [[ -z "$zone" ]]; then
  wrong '--zone is missing'
fi
if [[ -z "$accelerator" && -n "$runtime$spot" ]]; then
  wrong '--runtime and --spot need --accelerator'
fi
if [[ -n "$accelerator" && -z "$runtime" ]]; then
  runtime="$(default_runtime "$accelerator")"
fi
set_up_all
