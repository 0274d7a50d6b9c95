// Copies what the page loads out of node_modules into vendor/, so that this
// directory can be put on any static server as it is.
import {cpSync, mkdirSync, rmSync} from 'node:fs';

const FILES = {
  '@huggingface/transformers/dist/transformers.web.min.js': 'transformers.js',
  // Without WebGPU, which takes twice the bytes: 14 MB instead of 27.
  'onnxruntime-web/dist/ort.wasm.bundle.min.mjs': 'onnxruntime-web.mjs',
  'onnxruntime-web/dist/ort-wasm-simd-threaded.mjs':
    'ort-wasm-simd-threaded.mjs',
  'onnxruntime-web/dist/ort-wasm-simd-threaded.wasm':
    'ort-wasm-simd-threaded.wasm',
  'onnxruntime-common/dist/esm': 'onnxruntime-common',
};

const here = (path) => new URL(path, import.meta.url);
rmSync(here('vendor'), {recursive: true, force: true});
mkdirSync(here('vendor'));
for (const [source, target] of Object.entries(FILES)) {
  cpSync(here(`node_modules/${source}`), here(`vendor/${target}`), {
    recursive: true,
    filter: (path) => !/\.(map|ts)$/.test(path),
  });
}
