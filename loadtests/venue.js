// What the scripts share: where the venue is, who trades, guards that fail closed, and the verdict.
//
// k6 ends with 0 although nothing was answered, unless a threshold says otherwise: a script that throws makes no
// checks, and no check has failed. So every script counts the answers that it has held to be right, in `right_answers`,
// and `guards` demands that many. What else must not be: failed requests, wrong answers, dropped iterations.
import { SharedArray } from 'k6/data';
import { check } from 'k6';
import { Counter } from 'k6/metrics';
import exec from 'k6/execution';

/** An environment variable as a number; throws if it is none, so that a typing error is no default. */
export function number(name, otherwise) {
  const text = __ENV[name];
  if (text === undefined || text === '') return otherwise;
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${name}=${text} is no number above 0`);
  return value;
}

export const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:8000';
export const API = `${BASE_URL}/api/v1`;
export const SYMBOL = __ENV.SYMBOL || 'BTC-USD';
export const RATE = number('RATE', 100);
export const DURATION_S = number('DURATION_S', 15);

/** How many right answers a run needs: one of each iteration that is offered, but for what k6 begins a moment too late. */
export function samplesMin(seconds = DURATION_S) {
  return number('MIN_SAMPLES', Math.floor(RATE * seconds * 0.99));
}

// A file rather than a variable where somebody may read the process's environment.
const token = __ENV.TOKEN_FILE
  ? new SharedArray('token', () => [open(__ENV.TOKEN_FILE).trim()])[0]
  : __ENV.TOKEN || '';
export const TOKEN = token;
export const HEADERS = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };

/**
 * A venue that has not answered by then has failed. Without it a request may hang for a minute, and one that hangs when
 * the load ends is no failed one: a venue that stopped answering would look like load that was not offered.
 */
export const PATIENCE = '5s';

const rightAnswers = new Counter('right_answers');

/** Distinguishes this run's client order ids from those of every other run; at most 12 characters. */
export const RUN = __ENV.RUN || Date.now().toString(36);

/** A client order id that nobody else has. */
export function clientOrderId(suffix = '') {
  return `${RUN}-${exec.vu.idInTest}-${exec.vu.iterationInScenario}${suffix}`;
}

/**
 * Hold an answer against what must be true of it; counts it if all is. Returns whether it was right. Once an iteration:
 * two would make up for one that never came to its end. What else is to be held is for `check`.
 */
export function right(answer, expectations) {
  const held = check(answer, expectations);
  if (held) rightAnswers.add(1);
  return held;
}

/** The body as an object; an empty one if it is no JSON, so that the checks say what was wrong. */
export function bodyOf(response) {
  try {
    return response.json() || {};
  } catch (_) {
    return {};
  }
}

/** Thresholds that no run without right answers can pass. */
export function guards(samplesMin) {
  return {
    right_answers: [`count>=${samplesMin}`],
    checks: ['rate==1'],
    dropped_iterations: ['count<1'],
  };
}

/** Open-loop load: so many iterations a second begin, however long the answers take. */
export function constantRate(exec) {
  return {
    executor: 'constant-arrival-rate',
    rate: RATE,
    timeUnit: '1s',
    duration: `${DURATION_S}s`,
    preAllocatedVUs: number('CLIENTS', 16),
    maxVUs: number('CLIENTS_MAX', 64),
    gracefulStop: '8s', // Longer than PATIENCE, so that the last ones are judged, too.
    exec,
  };
}

const PERCENTILES = ['50', '90', '95', '99'];
export const TREND_STATS = ['avg', 'min', 'med', 'max', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'count'];

function latencyUs(metric) {
  if (!metric) return null;
  return Object.fromEntries(
    PERCENTILES.map((p) => [p, Math.round(metric.values[`p(${p})`] * 1000)]).filter(([, us]) => !Number.isNaN(us)),
  );
}

/**
 * The verdict as files for handleSummary: at most 4 KiB, so that it fits a container's termination message.
 *
 * `latency` names the metric whose percentiles are told; `by` further metrics by the name under which they appear.
 */
export function verdict(data, latency, by = {}) {
  const metric = (name) => data.metrics[name];
  const value = (name, key, otherwise) => (metric(name) ? metric(name).values[key] : otherwise);
  const failed = Object.entries(data.metrics).flatMap(([name, { thresholds }]) =>
    Object.entries(thresholds || {})
      .filter(([, { ok }]) => !ok)
      .map(([rule]) => `${name}: ${rule}`),
  );
  const told = {
    samples: value('right_answers', 'count', 0),
    latency_us: latencyUs(metric(latency)) || {},
    latency_by_us: Object.fromEntries(
      Object.entries(by)
        .filter(([, name]) => metric(name))
        .map(([short, name]) => [short, latencyUs(metric(name))]),
    ),
    placed: value(latency, 'count', 0),
    throughput_per_s: value('right_answers', 'count', 0) / (data.state.testRunDurationMs / 1000),
    failed_ratio: value('http_req_failed', 'rate', 0),
    checks_ratio: value('checks', 'rate', 0),
    wrong: failedChecks(data.root_group),
    dropped: value('dropped_iterations', 'count', 0),
    thresholds: failed.length ? failed : 'ok',
  };
  const text = JSON.stringify(told);
  const files = { stdout: `${text}\n` };
  files[__ENV.VERDICT_FILE || '/dev/termination-log'] = text.length > 4096 ? JSON.stringify({ ...told, wrong: {} }) : text;
  return files;
}

/** How often each check failed, by its name; those that never did are left out. */
function failedChecks(group) {
  const here = group.checks.filter(({ fails }) => fails > 0).map(({ name, fails }) => [name, fails]);
  return Object.fromEntries(here.concat(...group.groups.map((inner) => Object.entries(failedChecks(inner)))));
}
