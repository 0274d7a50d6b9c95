// Reads {directory, calls} and writes a result for each call, or the sentence
// of an InputError. A call is {task, model, args}: a task of transformers.js,
// or a function of the page's.
import {readFileSync} from 'node:fs';
import * as transformers from '@huggingface/transformers';
import * as page from './inference.mjs';

const {directory, calls} = JSON.parse(readFileSync(0, 'utf8'));
const {env} = transformers;
env.allowRemoteModels = false;
env.localModelPath = directory;

const LOADERS = {
  classify: 'AutoModelForSequenceClassification',
  answer: 'AutoModelForQuestionAnswering',
  fillMask: 'AutoModelForMaskedLM',
};
const made = new Map();

async function make(task, model) {
  const options = {dtype: 'fp32'};
  const loader = LOADERS[task];
  if (!loader) return transformers.pipeline(task, model, options);
  const served = {
    tokenizer: await transformers.AutoTokenizer.from_pretrained(model),
    model: await transformers[loader].from_pretrained(model, options),
    Tensor: transformers.Tensor,
  };
  return (...args) => page[task](served, ...args);
}

const results = [];
for (const {task, model, args} of calls) {
  const key = `${task} ${model}`;
  if (!made.has(key)) made.set(key, await make(task, model));
  try {
    results.push(await made.get(key)(...args));
  } catch (error) {
    if (!(error instanceof page.InputError)) throw error;
    results.push({problem: error.message});
  }
}
process.stdout.write(JSON.stringify(results));
