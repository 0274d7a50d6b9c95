// The page: finds out what the model in the directory can do, loads it, and
// shows what it says.
import {InputError, answer, classify, fillMask} from './inference.mjs';

// Another directory beside the page: index.html?model=DIRECTORY
const DIRECTORY = new URLSearchParams(location.search).get('model') ?? 'model';
const EXPORT =
  'python -m mobilebert_jax.export --model=RUN --format=onnx ' +
  '--output=examples/browser/model';
const EXPECTED =
  'config.json, tokenizer.json, tokenizer_config.json and onnx/model.onnx';

// The files of weights, with transformers.js's names; the smallest first.
const FILES = [
  {dtype: 'q8', name: 'model_quantized.onnx', kind: '8-bit integers'},
  {dtype: 'fp16', name: 'model_fp16.onnx', kind: 'float16'},
  {dtype: 'fp32', name: 'model.onnx', kind: 'float32'},
];

// What a class of models is loaded by, and the form that asks it.
const VIEWS = {
  MobileBertForSequenceClassification: {
    form: 'classify',
    loader: 'AutoModelForSequenceClassification',
    run: showLabels,
  },
  MobileBertForQuestionAnswering: {
    form: 'answer',
    loader: 'AutoModelForQuestionAnswering',
    run: showAnswer,
  },
  MobileBertForMaskedLM: {
    form: 'fill-mask',
    loader: 'AutoModelForMaskedLM',
    run: showGuesses,
  },
};

const byId = (id) => document.getElementById(id);
const size = (bytes) =>
  bytes < 1e6
    ? `${(bytes / 1e3).toFixed(0)} kB`
    : `${(bytes / 1e6).toFixed(1)} MB`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let served;

async function start() {
  say('Looking for a model.');
  const config = await readConfig();
  const [architecture] = config.architectures ?? [];
  const view = VIEWS[architecture];
  if (!view) {
    throw new InputError(
      `${DIRECTORY}/ holds ${architecture ?? 'no known class of model'}; ` +
        `this page shows ${Object.keys(VIEWS).join(', ')}.`,
    );
  }
  const files = await findFiles();
  const transformers = await importTransformers();
  byId('file').append(
    ...files.map(({dtype, name, kind, bytes}) => {
      const long = bytes ? `, ${size(bytes)}` : '';
      return new Option(`${name} (${kind}${long})`, dtype);
    }),
  );
  const {form} = view;
  byId('file').addEventListener('change', () =>
    attempt(() => load(transformers, view)),
  );
  byId(form).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(view.run);
  });
  byId(form).addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      byId(form).requestSubmit();
    }
  });
  byId('insert-mask').addEventListener('click', insertMask);
  await load(transformers, view);
  byId(form).querySelector('textarea').focus();
}

async function readConfig() {
  const response = await fetch(`${DIRECTORY}/config.json`, {cache: 'no-cache'});
  try {
    if (response.ok) return await response.json();
  } catch {
    throw new InputError(`${DIRECTORY}/config.json is no JSON.`);
  }
  throw new InputError(
    `There is no model: ${DIRECTORY}/ must hold ${EXPECTED}, ` +
      `which \`${EXPORT}\` writes.`,
  );
}

async function findFiles() {
  const found = await Promise.all(
    FILES.map(async (file) => {
      const response = await fetch(`${DIRECTORY}/onnx/${file.name}`, {
        method: 'HEAD',
        cache: 'no-cache',
      });
      const bytes = Number(response.headers.get('Content-Length'));
      return response.ok ? [{...file, bytes}] : [];
    }),
  );
  if (!found.flat().length) {
    throw new InputError(
      `The model has no weights: ${DIRECTORY}/ must hold ${EXPECTED}, ` +
        `which \`${EXPORT}\` writes.`,
    );
  }
  return found.flat();
}

async function importTransformers() {
  let transformers;
  try {
    transformers = await import('@huggingface/transformers');
  } catch {
    throw new InputError(
      'vendor/ is incomplete: run `npm install --ignore-scripts` and ' +
        '`npm run vendor` in the directory of this page.',
    );
  }
  const {env} = transformers;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = './';
  // The server is asked each time whether a file is still the same. A cache of
  // the page's own would go on with the model of before the last export.
  env.useBrowserCache = false;
  env.useWasmCache = false;
  env.fetch = (url, options) => fetch(url, {...options, cache: 'no-cache'});
  env.backends.onnx.wasm.wasmPaths = new URL('vendor/', location).href;
  return transformers;
}

async function load(transformers, {form, loader}) {
  const dtype = byId('file').value;
  const begun = performance.now();
  byId('result').hidden = byId(form).hidden = true;
  byId('loading').hidden = byId('progress').hidden = false;
  say('Loading the tokenizer.');
  // Before the next one comes: a phone may not have the memory for two.
  await served?.model.dispose();
  served = undefined;
  const tokenizer = await transformers.AutoTokenizer.from_pretrained(DIRECTORY);
  const model = await transformers[loader].from_pretrained(DIRECTORY, {
    dtype,
    device: 'wasm',
    progress_callback: ({status, file, loaded, total}) => {
      if (status !== 'progress' || !file.endsWith('.onnx')) return;
      const whole = total ? ` of ${size(total)}` : '';
      say(`Loading ${file}: ${size(loaded)}${whole}.`);
      if (total) byId('progress').value = loaded / total;
    },
  });
  served = {tokenizer, model, Tensor: transformers.Tensor};
  const seconds = (performance.now() - begun) / 1000;
  byId('loaded').textContent = `loaded in ${seconds.toFixed(1)} s`;
  byId('loading').hidden = true;
  byId('progress').removeAttribute('value');
  byId(form).hidden = byId('model').hidden = false;
}

async function showLabels() {
  const [text, pair] = [byId('classify-text'), byId('classify-pair')];
  const {value, milliseconds} = await timed(() =>
    classify(served, text.value, pair.value),
  );
  const {labels, isProbability, tokens, read} = value;
  const cut =
    read < tokens ? `The first ${read} of ${tokens} tokens were read.` : '';
  show([scoreList(labels, isProbability)], [cut, milliseconds]);
}

async function showAnswer() {
  const text = byId('answer-text').value;
  const {value, milliseconds} = await timed(() =>
    answer(served, byId('answer-question').value, text),
  );
  const {start, end, score, nullScore} = value;
  const mark = element('mark', '', text.slice(start, end));
  const marked = element('p', 'text');
  marked.append(text.slice(0, start), mark, text.slice(end));
  const doubt =
    nullScore > score
      ? `More likely (${percent(nullScore)}) the text has no answer.`
      : '';
  const note = element('span', '', 'Score ');
  note.append(dataOf(score, percent(score)), '.');
  show([marked], [note, doubt, milliseconds]);
  mark.scrollIntoView({block: 'nearest'});
}

async function showGuesses() {
  const {value, milliseconds} = await timed(() =>
    fillMask(served, byId('fill-mask-text').value),
  );
  const lists = value.map((guesses) =>
    scoreList(
      guesses.map(({word, score}) => ({label: word, score})),
      true,
    ),
  );
  show(lists, [milliseconds]);
}

function insertMask() {
  const text = byId('fill-mask-text');
  const {selectionStart: from, selectionEnd: to} = text;
  text.setRangeText(served.tokenizer.mask_token, from, to, 'end');
  text.focus();
}

async function timed(compute) {
  const begun = performance.now();
  const value = await compute();
  const spent = performance.now() - begun;
  return {value, milliseconds: `Computed in ${spent.toFixed(0)} ms.`};
}

// Runs what a person asked for; nothing else can be asked meanwhile.
async function attempt(action) {
  const focused = document.activeElement;
  const controls = document.querySelectorAll('button, select');
  controls.forEach((control) => (control.disabled = true));
  byId('problem').hidden = true;
  // The computation holds the page up: let it show the buttons first.
  await new Promise((resolve) => setTimeout(resolve));
  try {
    await action();
  } catch (error) {
    explain(error);
  }
  controls.forEach((control) => (control.disabled = false));
  // What is disabled loses the focus.
  focused.focus();
}

function explain(error) {
  byId('loading').hidden = byId('result').hidden = true;
  const problem = byId('problem');
  problem.hidden = false;
  const message =
    error instanceof InputError
      ? error.message
      : `The model cannot be run: ${String(error.message ?? error)}`;
  // Commands stand between backticks.
  const parts = message.split('`');
  problem.replaceChildren(
    ...parts.map((part, i) => (i % 2 ? element('code', '', part) : part)),
  );
}

function say(message) {
  byId('status').textContent = message;
}

function show(parts, notes) {
  const note = element('p', 'note');
  for (const part of notes.filter(Boolean)) note.append(part, ' ');
  byId('result').replaceChildren(...parts, note);
  byId('result').hidden = false;
}

function scoreList(scored, isProbability) {
  const list = element('ol', 'scores');
  list.append(
    ...scored.map(({label, score}) => {
      const item = element('li');
      const track = element('span', isProbability ? 'track' : '');
      if (isProbability) {
        const bar = element('span', 'bar');
        bar.style.width = percent(score).replace(' ', '');
        track.append(bar);
      }
      const shown = isProbability ? percent(score) : score.toFixed(3);
      item.append(element('span', 'label', label), track);
      item.append(dataOf(score, shown));
      return item;
    }),
  );
  return list;
}

// A number as it is shown, with all its digits for scripts.
function dataOf(value, shown) {
  const data = element('data', '', shown);
  data.value = value;
  return data;
}

function element(name, kind = '', text = '') {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

try {
  await start();
} catch (error) {
  explain(error);
}
