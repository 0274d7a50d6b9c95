// From a text to labels, words or an answer, with a tokenizer and a model of
// transformers.js. Nothing here knows of the page: node runs it as well.

/** What the person at the page can put right, in one sentence. */
export class InputError extends Error {}

// What the pipelines of mobilebert_jax do with a long text.
const LONGEST_PART = 384;
const LONGEST_OVERLAP = 128;

/** The most tokens the model reads at once. */
export function maxLength({tokenizer, model}) {
  return Math.min(
    tokenizer.model_max_length,
    model.config.max_position_embeddings,
  );
}

/**
 * Scores the labels of a text, or of a pair of texts.
 *
 * @returns labels with scores, best first; whether the scores are
 *   probabilities; how many tokens there are and how many were read.
 */
export async function classify(served, text, pair = '') {
  const {tokenizer, model} = served;
  const [cls, sep] = encode(tokenizer, '', true);
  let first = encode(tokenizer, text);
  let second = encode(tokenizer, pair);
  const special = second.length ? 3 : 2;
  const tokens = first.length + second.length + special;
  const read = Math.min(tokens, maxLength(served));
  if (read < tokens) {
    // As in training, the longer text is cut. (transformers.js would cut the
    // last [SEP] away.)
    const room = read - special;
    const shorter = Math.min(
      first.length,
      second.length,
      Math.floor(room / 2),
    );
    const isFirst = first.length <= second.length;
    first = first.slice(0, isFirst ? shorter : room - shorter);
    second = second.slice(0, isFirst ? room - shorter : shorter);
  }
  const ids = [cls, ...first, sep, ...(special > 2 ? [...second, sep] : [])];
  const outputs = await model(inputs(served, ids, first.length + 2));
  const logits = Array.from(outputs.logits.data);
  const {id2label, problem_type: problem} = model.config;
  const isProbability = problem !== 'regression';
  let scores = logits;
  if (problem === 'multi_label_classification' || logits.length === 1) {
    if (isProbability) scores = logits.map((x) => 1 / (1 + Math.exp(-x)));
  } else if (isProbability) {
    scores = softmax(logits);
  }
  const labels = scores.map((score, i) => ({label: id2label[i], score}));
  labels.sort((a, b) => b.score - a.score);
  return {labels, isProbability, tokens, read};
}

/**
 * Guesses the words in the places of [MASK].
 *
 * @returns for each mask its likeliest tokens with their scores.
 */
export async function fillMask(served, text, count = 5) {
  const {tokenizer, model} = served;
  const [cls, sep] = encode(tokenizer, '', true);
  const ids = [cls, ...encode(tokenizer, text), sep];
  const longest = maxLength(served);
  if (ids.length > longest) {
    throw new InputError(
      `The text has ${ids.length} tokens, and the model reads ${longest}.`,
    );
  }
  if (!ids.includes(tokenizer.mask_token_id)) {
    throw new InputError(
      `Put ${tokenizer.mask_token} where a word is to be guessed.`,
    );
  }
  const {logits} = await model(inputs(served, ids, ids.length));
  const size = logits.dims[2];
  return ids.flatMap((id, place) => {
    if (id !== tokenizer.mask_token_id) return [];
    const row = logits.data.subarray(place * size, (place + 1) * size);
    const scores = softmax(Array.from(row));
    const order = scores.map((_, token) => token);
    order.sort((a, b) => scores[b] - scores[a]);
    const best = order.slice(0, count);
    return [
      best.map((token) => ({
        word: tokenizer.decode([token]),
        score: scores[token],
      })),
    ];
  });
}

/**
 * Finds the span of a text that answers a question.
 *
 * A text that is too long is read in parts that overlap. A span begins and
 * ends at whole words, so that it can be marked in the text as it is.
 *
 * @param longest tokens in the longest answer.
 * @returns the answer, its place (UTF-16 units of the text), its score, and
 *   the score of there being none.
 */
export async function answer(served, question, text, longest = 30) {
  const {tokenizer} = served;
  const asked = encode(tokenizer, question);
  const pieces = pieceWords(tokenizer, text);
  const window = Math.min(maxLength(served), LONGEST_PART);
  const overlap = Math.min(Math.floor(window / 2), LONGEST_OVERLAP);
  // [CLS] question [SEP] part [SEP]
  const room = window - asked.length - 3;
  if (room <= overlap) {
    throw new InputError(
      `The question has ${asked.length} tokens, which leaves no room for ` +
        `the text: the model reads ${window}.`,
    );
  }
  let best = {score: -Infinity};
  let nullScore = 1;
  for (let from = 0; ; from += room - overlap) {
    const part = pieces.slice(from, from + room);
    const {start, end} = await spanScores(served, asked, part);
    nullScore = Math.min(nullScore, Math.exp(start[0] + end[0]));
    for (let i = 0; i < part.length; ++i) {
      const stop = Math.min(i + longest, part.length);
      for (let j = i; j < stop; ++j) {
        const score = start[i + 1] + end[j + 1];
        if (score > best.score) {
          best = {score, start: part[i].word.start, end: part[j].word.end};
        }
      }
    }
    if (from + room >= pieces.length) break;
  }
  if (best.score === -Infinity) {
    throw new InputError('The text has no words.');
  }
  return {
    ...best,
    score: Math.exp(best.score),
    answer: text.slice(best.start, best.end),
    nullScore,
  };
}

/** Logarithms of p(start) and p(end): of no answer, then of each piece. */
async function spanScores(served, asked, part) {
  const [cls, sep] = encode(served.tokenizer, '', true);
  const first = asked.length + 2;
  const ids = [cls, ...asked, sep, ...part.map((piece) => piece.id), sep];
  const outputs = await served.model(inputs(served, ids, first));
  const allowed = ({data}) =>
    logSoftmax([data[0], ...data.subarray(first, first + part.length)]);
  return {
    start: allowed(outputs.start_logits),
    end: allowed(outputs.end_logits),
  };
}

/** What the model reads: one row of tokens; `second` begins segment 1. */
function inputs({Tensor}, ids, second) {
  const row = (values) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, ids.length]);
  return {
    input_ids: row(ids),
    attention_mask: row(ids.map(() => 1)),
    token_type_ids: row(ids.map((_, i) => Number(i >= second))),
  };
}

// The tokenizer does not say where in the text a token stands, so the text is
// cut into words as BERT's tokenizer does it, and each is tokenised by itself.
// Symbols that become punctuation without their accent count as such.
const PUNCTUATION = '\\p{P}!-\\/:-@\\[-`{-~≠≮≯\\u1fef';
const IDEOGRAPH =
  '\\u4e00-\\u9fff\\u3400-\\u4dbf\\uf900-\\ufaff\\u{20000}-\\u{2a6df}' +
  '\\u{2a700}-\\u{2ebef}\\u{2f800}-\\u{2fa1f}';
const WORD = `[${PUNCTUATION}${IDEOGRAPH}]|[^\\s${PUNCTUATION}${IDEOGRAPH}]+`;

/** The tokens of a text, each with the place of its word in the text. */
function pieceWords(tokenizer, text) {
  const special = tokenizer.all_special_tokens.map((token) =>
    token.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'),
  );
  const words = text.matchAll(new RegExp([...special, WORD].join('|'), 'gu'));
  return Array.from(words).flatMap(({0: word, index}) =>
    encode(tokenizer, word).map((id) => ({
      id,
      word: {start: index, end: index + word.length},
    })),
  );
}

function encode(tokenizer, text, withSpecial = false) {
  const {input_ids: ids} = tokenizer(text, {
    add_special_tokens: withSpecial,
    return_tensor: false,
  });
  return Array.from(ids, Number);
}

function softmax(logits) {
  return logSoftmax(logits).map(Math.exp);
}

function logSoftmax(logits) {
  // Not Math.max(...logits): a vocabulary is too long for arguments.
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, x) => total + Math.exp(x - largest), 0);
  return logits.map((x) => x - largest - Math.log(sum));
}
