// Single orders as traders send them, at a constant rate: what the gates measure.
//
//   k6 run -e BASE_URL=http://127.0.0.1:8000 -e TOKEN=… -e SYMBOL=BTC-USD loadtests/order_flow.js
//
// RATE 100, DURATION_S 15, MIN_SAMPLES (99 % of what is offered), CLIENTS 16, VERDICT_FILE; TOKEN or TOKEN_FILE.
// Of ten iterations five place a limit order near the mid, one a market order, two cancel and one replaces an order of
// their own, one sends an order twice, as after a timeout, and must get its first answer again. The account is of
// the mode `limits`, the symbol's tick is 0.01 and its lot at most 0.001.
import exec from 'k6/execution';
import http from 'k6/http';
import { check } from 'k6';
import { API, HEADERS, PATIENCE, SYMBOL, TREND_STATS } from './venue.js';
import { bodyOf, clientOrderId, constantRate, guards, right, samplesMin, verdict } from './venue.js';

export const options = {
  scenarios: { orders: constantRate('default') },
  thresholds: {
    ...guards(samplesMin()),
    http_req_failed: ['rate==0'],
    // Named so that the verdict has percentiles of each; any time is below ten seconds.
    'http_req_duration{op:place}': ['p(99)<10000'],
    'http_req_duration{op:cancel}': ['p(99)<10000'],
    'http_req_duration{op:replace}': ['p(99)<10000'],
    'http_req_duration{op:repeat}': ['p(99)<10000'],
  },
  summaryTrendStats: TREND_STATS,
};

// A cancel or a replace may come too late: the order is filled, which is an answer like any other.
http.setResponseCallback(http.expectedStatuses(200, 409));

const MID = 50000;
const OPEN_MAX = 20; // Orders that one client leaves in the book; then it cancels.
const PERIOD = ['place', 'place', 'cancel', 'place', 'repeat', 'place', 'replace', 'market', 'place', 'cancel'];

const open = []; // This client's orders that may still rest, the oldest first.

export default function () {
  const step = open.length >= OPEN_MAX ? 'cancel' : PERIOD[exec.scenario.iterationInTest % PERIOD.length];
  if (step === 'cancel' && open.length) cancel(open.shift());
  else if (step === 'replace' && open.length) replace(open[open.length - 1]);
  else if (step === 'repeat') repeat();
  else place(step === 'market' ? marketOrder() : limitOrder());
}

function limitOrder() {
  const side = Math.random() < 0.5 ? 'buy' : 'sell';
  // Up to 2.00 on the own side of the mid, now and then beyond it: about one in ten trades at once.
  const distance = Math.random() * 2.2 - 0.2;
  const price = side === 'buy' ? MID - distance : MID + distance;
  return { symbol: SYMBOL, side, type: 'limit', price: price.toFixed(2), quantity: quantity(), client_order_id: clientOrderId() };
}

function marketOrder() {
  const side = Math.random() < 0.5 ? 'buy' : 'sell';
  return { symbol: SYMBOL, side, type: 'market', quantity: quantity(), client_order_id: clientOrderId() };
}

function quantity() {
  return `0.00${1 + Math.floor(Math.random() * 9)}`;
}

function asked(op) {
  return { headers: HEADERS, timeout: PATIENCE, tags: { op } };
}

function post(order, op) {
  return http.post(`${API}/orders`, JSON.stringify(order), asked(op));
}

const STATUSES = {
  limit: ['new', 'partially_filled', 'filled'],
  market: ['filled', 'expired'],
};

function isAnswerTo(order, response) {
  const answer = bodyOf(response);
  const unit = (text) => Math.round(Number(text) * 1000);
  return {
    'an order is answered with 200': () => response.status === 200,
    'the answer is about the order': () =>
      answer.client_order_id === order.client_order_id && answer.symbol === order.symbol && answer.side === order.side,
    'its status is possible': () => STATUSES[order.type].includes(answer.status),
    'filled and remaining make the quantity': () =>
      unit(answer.filled_quantity) + unit(answer.remaining_quantity) === unit(order.quantity),
    'it has a sequence number': () => Number(response.headers['X-Seq']) > 0,
  };
}

function place(order) {
  const response = post(order, 'place');
  if (right(response, isAnswerTo(order, response))) keep(response);
}

function keep(response) {
  const { order_id, status } = bodyOf(response);
  if (status === 'new' || status === 'partially_filled') open.push(order_id);
}

function repeat() {
  const order = limitOrder();
  const first = post(order, 'place');
  if (!check(first, isAnswerTo(order, first))) return;
  keep(first);
  const second = post(order, 'repeat');
  right(second, {
    'a repeat gets the first answer': () => second.status === 200 && second.body === first.body,
    'a repeat is marked': () => second.headers['Idempotent-Replay'] === 'true',
  });
}

function cancel(orderId) {
  const response = http.del(`${API}/orders/${orderId}`, null, asked('cancel'));
  const answer = bodyOf(response);
  right(response, {
    'a cancel is answered with the order, or comes too late': () =>
      (response.status === 200 && answer.order_id === orderId && answer.status === 'canceled') ||
      (response.status === 409 && answer.code === 1009),
  });
}

function replace(orderId) {
  const order = { quantity: `0.0${10 + Math.floor(Math.random() * 80)}` };
  const response = http.put(`${API}/orders/${orderId}`, JSON.stringify(order), asked('replace'));
  const answer = bodyOf(response);
  right(response, {
    'a replace is answered with the order, or comes too late': () =>
      (response.status === 200 && answer.order_id === orderId && Number(answer.quantity) === Number(order.quantity)) ||
      (response.status === 409 && answer.code === 1009),
  });
}

export function handleSummary(data) {
  return verdict(data, 'http_req_duration{op:place}', {
    place: 'http_req_duration{op:place}',
    cancel: 'http_req_duration{op:cancel}',
    replace: 'http_req_duration{op:replace}',
    repeat: 'http_req_duration{op:repeat}',
  });
}
