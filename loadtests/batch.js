// Batches of orders, at a constant rate: what the venue's throughput is measured with.
//
//   k6 run -e BASE_URL=… -e TOKEN=… -e RATE=20 -e ORDERS=500 loadtests/batch.js
//
// RATE batches a second (20), ORDERS in each (500, at most 1000), DURATION_S 15, MIN_SAMPLES batches, VERDICT_FILE. Orders
// rest and are met by the next batch's, so that the book stays flat. `orders` in the verdict's throughput is RATE × ORDERS.
import http from 'k6/http';
import { API, HEADERS, PATIENCE, SYMBOL, TREND_STATS } from './venue.js';
import { bodyOf, clientOrderId, constantRate, guards, number, right, samplesMin, verdict } from './venue.js';

const ORDERS = number('ORDERS', 500);

export const options = {
  scenarios: { batches: constantRate('default') },
  thresholds: { ...guards(samplesMin()), http_req_failed: ['rate==0'], http_req_duration: ['p(99)<10000'] },
  summaryTrendStats: TREND_STATS,
};

export default function () {
  const id = clientOrderId();
  const orders = [];
  for (let n = 0; n < ORDERS; n++) {
    // Each sell is met by the buy behind it.
    const side = n % 2 ? 'buy' : 'sell';
    orders.push({ symbol: SYMBOL, side, type: 'limit', price: '50000', quantity: '0.001', client_order_id: `${id}-${n}` });
  }
  const response = http.post(`${API}/orders/batch`, JSON.stringify({ orders }), { headers: HEADERS, timeout: PATIENCE });
  const results = bodyOf(response).results || [];
  right(response, {
    'a batch is answered with 200': () => response.status === 200,
    'each order has its own answer, in order': () =>
      results.length === ORDERS && results.every(({ ok, order }, n) => ok && order.client_order_id === `${id}-${n}`),
    'each is filled or rests': () => results.every(({ order }) => ['new', 'partially_filled', 'filled'].includes(order.status)),
  });
}

export function handleSummary(data) {
  return verdict(data, 'http_req_duration');
}
