// Reads {chromium, url, visits} and writes what the page showed at each visit:
// {shown: [...], problem, addresses, errors}. A visit is {query, steps}; a step
// is {type: {selector: text}} into fields, {choose: [selector, value]} in a
// list, or {submit: form}, after which what is shown is noted.
import {readFileSync} from 'node:fs';
import puppeteer from 'puppeteer-core';

const {chromium, url, visits} = JSON.parse(readFileSync(0, 'utf8'));
// Milliseconds; a machine that is busy with other tests takes its time.
const PATIENCE = 120_000;
const browser = await puppeteer.launch({
  executablePath: chromium,
  // Chromium has no sandbox for root, which tests in a container run as.
  args: ['--no-sandbox'],
  timeout: PATIENCE,
});

const READ = () => {
  const result = document.querySelector('#result');
  const problem = document.querySelector('#problem');
  return {
    problem: problem.hidden ? '' : problem.textContent,
    scores: Array.from(result.querySelectorAll('li'), (item) => ({
      label: item.querySelector('.label').textContent,
      score: Number(item.querySelector('data').value),
    })),
    text: result.querySelector('.text')?.textContent,
    marked: result.querySelector('mark')?.textContent,
    score: Number(result.querySelector('.note data')?.value),
    note: result.querySelector('.note')?.textContent,
  };
};
// Either a form can be sent, or there is a sentence that says why not.
const READY = () =>
  !document.querySelector('#problem').hidden ||
  document.querySelector('form:not([hidden]) button:not([disabled])');

async function take(page, step) {
  for (const [field, text] of Object.entries(step.type ?? {})) {
    await page.$eval(field, (node) => (node.value = ''));
    await page.type(field, text);
  }
  if (step.choose) {
    await page.select(...step.choose);
    await page.waitForFunction(READY);
  }
  if (!step.submit) return [];
  await page.$eval('#result', (node) => node.replaceChildren());
  await page.click(`${step.submit} button:not([type])`);
  await page.waitForFunction(
    () =>
      document.querySelector('#result').hasChildNodes() ||
      !document.querySelector('#problem').hidden,
  );
  return [await page.evaluate(READ)];
}

const seen = [];
for (const {query, steps} of visits) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const [addresses, errors] = [[], []];
  page.on('request', (request) => addresses.push(request.url()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(`${url}?${query}`);
  await page.waitForFunction(READY);
  const shown = [];
  for (const step of steps) shown.push(...(await take(page, step)));
  const {problem} = await page.evaluate(READ);
  const files = await page.$$eval('#file option', (options) =>
    options.map((option) => option.value),
  );
  seen.push({shown, problem, files, addresses, errors});
  await page.close();
}
await browser.close();
process.stdout.write(JSON.stringify(seen));
