// The order flow for a long time, and whether the venue's memory and files stay flat meanwhile.
//
//   k6 run -e BASE_URL=… -e TOKEN=… -e METRICS_URL=http://127.0.0.1:9102/metrics -e DURATION_S=3600 loadtests/soak.js
//
// As order_flow.js, for DURATION_S (600), and METRICS_URL is asked every ten seconds: `memory_growth` is resident memory
// of engine and history over what it was after the first tenth of the time, `files_growth` the same of open files.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Gauge } from 'k6/metrics';
import { TREND_STATS, constantRate, guards, number, samplesMin, verdict } from './venue.js';

export { default } from './order_flow.js';

const LONG_S = number('DURATION_S', 600);
const METRICS_URL = __ENV.METRICS_URL || 'http://127.0.0.1:9102/metrics';
const EVERY_S = Math.min(10, LONG_S / 10);
const memoryGrowth = new Gauge('memory_growth');
const filesGrowth = new Gauge('files_growth');

export const options = {
  scenarios: {
    orders: { ...constantRate('default'), duration: `${LONG_S}s` },
    watch: {
      executor: 'per-vu-iterations', vus: 1, iterations: 1, exec: 'watch',
      startTime: `${Math.ceil(LONG_S / 10)}s`, maxDuration: `${LONG_S}s`,
    },
  },
  thresholds: {
    ...guards(samplesMin(LONG_S)),
    http_req_failed: ['rate==0'],
    'http_req_duration{op:place}': ['p(99)<10000'],
    // Growth must have been looked at: an empty gauge has the value 0.
    memory_growth: [`value<${number('MEMORY_GROWTH_MAX', 1.25)}`, 'value>0'],
    files_growth: ['value<1.5', 'value>0'],
  },
  summaryTrendStats: TREND_STATS,
};

function sum(text, name) {
  const found = text.match(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+]+)$`, 'gm')) || [];
  return found.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0);
}

export function watch() {
  let first;
  for (let waited = 0; waited < LONG_S * 0.85; waited += EVERY_S) {
    const response = http.get(METRICS_URL, { tags: { op: 'metrics' } });
    const now = {
      memory: sum(response.body, 'tradsys_process_resident_memory_bytes'),
      files: sum(response.body, 'tradsys_process_open_files'),
    };
    if (check(now, { 'the venue shows its memory and files': ({ memory, files }) => memory > 0 && files > 0 })) {
      first = first || now;
      memoryGrowth.add(now.memory / first.memory);
      filesGrowth.add(now.files / first.files);
    }
    sleep(EVERY_S);
  }
}

export function handleSummary(data) {
  return verdict(data, 'http_req_duration{op:place}');
}
