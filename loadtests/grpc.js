// Single orders over gRPC, one connection for each client.
//
//   k6 run -e GRPC_ADDRESS=127.0.0.1:50051 -e TOKEN=… -e SYMBOL=BTC-USD loadtests/grpc.js
//
// RATE 100, DURATION_S 15, MIN_SAMPLES, CLIENTS 16, VERDICT_FILE; PROTO names the folder with tradsys/v1/orders.proto where
// the gateway does not answer reflection. Of five iterations three place an order, one repeats it, one cancels one.
import exec from 'k6/execution';
import grpc from 'k6/net/grpc';
import { check } from 'k6';
import { SYMBOL, TOKEN, TREND_STATS, clientOrderId, constantRate, guards, right, samplesMin, verdict } from './venue.js';

const ADDRESS = __ENV.GRPC_ADDRESS || '127.0.0.1:50051';
const SERVICE = 'tradsys.v1.OrderService';
const client = new grpc.Client();
if (__ENV.PROTO) client.load([__ENV.PROTO], 'tradsys/v1/orders.proto');

export const options = {
  scenarios: { calls: constantRate('default') },
  thresholds: { ...guards(samplesMin()), 'grpc_req_duration{op:place}': ['p(99)<10000'] },
  summaryTrendStats: TREND_STATS,
};

const open = [];
let connected = false;

export default function () {
  if (!connected) {
    client.connect(ADDRESS, { plaintext: true, reflect: !__ENV.PROTO, timeout: '5s' });
    connected = true;
  }
  const step = exec.scenario.iterationInTest % 5;
  if (step === 4 && open.length) cancel(open.shift());
  else if (step === 2) repeat();
  else place(limitOrder());
}

function invoke(method, request, op) {
  return client.invoke(`${SERVICE}/${method}`, request, {
    metadata: { authorization: `Bearer ${TOKEN}` }, timeout: '5s', tags: { op },
  });
}

function limitOrder() {
  const buys = Math.random() < 0.5;
  const distance = Math.random() * 2.2 - 0.2;
  return {
    symbol: SYMBOL,
    side: buys ? 'SIDE_BUY' : 'SIDE_SELL',
    type: 'ORDER_TYPE_LIMIT',
    price: (buys ? 50000 - distance : 50000 + distance).toFixed(2),
    quantity: `0.00${1 + Math.floor(Math.random() * 9)}`,
    client_order_id: clientOrderId(),
  };
}

const POSSIBLE = ['ORDER_STATUS_NEW', 'ORDER_STATUS_PARTIALLY_FILLED', 'ORDER_STATUS_FILLED'];

function place(order) {
  const response = invoke('PlaceOrder', order, 'place');
  const answer = response.message || {};
  const unit = (text) => Math.round(Number(text || 0) * 1000);
  const held = right(response, {
    'a call is answered with OK': () => response.status === grpc.StatusOK,
    'its status is possible': () => POSSIBLE.includes(answer.status),
    'filled and remaining make the quantity': () =>
      unit(answer.filledQuantity) + unit(answer.remainingQuantity) === unit(order.quantity),
  });
  if (held && answer.status !== 'ORDER_STATUS_FILLED') open.push(answer.orderId);
  return held ? answer : null;
}

function repeat() {
  const order = limitOrder();
  const first = place(order);
  if (!first) return;
  const second = invoke('PlaceOrder', order, 'repeat');
  check(second, {
    'a repeat gets the first answer, marked': () =>
      second.status === grpc.StatusOK && second.message.orderId === first.orderId && second.message.replayed === true,
  });
}

function cancel(orderId) {
  const response = invoke('CancelOrder', { order_id: orderId }, 'cancel');
  right(response, {
    'a cancel is answered with the order, or comes too late': () =>
      (response.status === grpc.StatusOK && response.message.orderId === orderId) ||
      response.status === grpc.StatusFailedPrecondition,
  });
}

export function handleSummary(data) {
  return verdict(data, 'grpc_req_duration{op:place}');
}
