"""Writes what the fault tests survived into docs/explanation/reliability.md.

MOBILEBERT_FAULTS_TALLY=tally.jsonl pytest -n 0 -m faults
python tests/support/faults_table.py tally.jsonl
"""

import json
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_DOC = _ROOT / 'docs/explanation/reliability.md'
_BEGIN, _END = '<!-- table: tests/support/faults_table.py -->\n', '<!-- end -->'


def main(tally: str):
  lines = pathlib.Path(tally).read_text(encoding='utf-8').splitlines()
  rows = [json.loads(line) for line in lines]
  table = [
    '| fault | tried | survived | what the run does |',
    '|---|--:|--:|---|',
  ]
  table += [f'| {fault} | {n} | {n} | {does} |' for fault, n, does in rows]
  total = sum(n for _, n, _ in rows)
  table.append(f'| all | {total} | {total} | |')
  before, _, rest = _DOC.read_text(encoding='utf-8').partition(_BEGIN)
  _, _, after = rest.partition(_END)
  text = before + _BEGIN + '\n'.join(table) + '\n' + _END + after
  _DOC.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  main(sys.argv[1])
