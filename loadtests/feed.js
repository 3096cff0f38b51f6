// Market data over WebSocket, held to its own rules: a snapshot first, then deltas without a gap.
//
//   k6 run -e WS_URL=ws://127.0.0.1:8001/ws -e SYMBOL=BTC-USD loadtests/feed.js
//
// SUBSCRIBERS 10, DURATION_S 15, MIN_SAMPLES (messages that must arrive in order; default one), VERDICT_FILE. Each subscriber
// must be sent its book: a feed that accepts subscriptions and then says nothing is no feed. It only listens:
// order_flow.js beside it makes something happen. How late messages are is measured by the feed itself, in
// tradsys_feed_delay_seconds: k6's clock has milliseconds.
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';
import { DURATION_S, SYMBOL, TREND_STATS, guards, number, right, verdict } from './venue.js';

const URL = __ENV.WS_URL || 'ws://127.0.0.1:8001/ws';
const SUBSCRIBERS = number('SUBSCRIBERS', 10);
const subscribed = new Counter('subscriptions');
const subscribeTime = new Trend('subscribe_duration', true);

export const options = {
  scenarios: {
    feed: { executor: 'per-vu-iterations', vus: SUBSCRIBERS, iterations: 1, maxDuration: `${DURATION_S + 20}s` },
  },
  thresholds: { ...guards(number('MIN_SAMPLES', 1)), subscriptions: [`count==${SUBSCRIBERS}`] },
  summaryTrendStats: TREND_STATS,
};

export default function () {
  const begun = Date.now();
  const socket = new WebSocket(URL, 'tradsys.json.v1');
  const follower = new Follower();
  let ended = false;
  let connected = false;

  socket.onopen = () => {
    connected = true;
    const channels = ['book', 'trades'].map((name) => ({ name, symbols: [SYMBOL] }));
    socket.send(JSON.stringify({ op: 'subscribe', id: 1, channels }));
    setTimeout(() => {
      ended = true;
      socket.close();
    }, DURATION_S * 1000);
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.id === 1) {
      if (right(message, { 'the subscription is accepted': (reply) => reply.ok === true })) {
        subscribed.add(1);
        subscribeTime.add(Date.now() - begun);
      }
    } else {
      follower.take(message);
    }
  };
  socket.onerror = ({ error }) => {
    check(error, { 'no connection breaks': () => false });
  };
  socket.onclose = () => {
    check(ended, { 'the connection stays open until we close it': (ours) => ours });
    check(connected, { 'the connection is accepted': (was) => was });
    check(follower, { 'the book is sent': ({ seqs }) => Object.keys(seqs).length > 0 });
  };
}

/** Where one subscriber stands in each stream. */
class Follower {
  constructor() {
    this.seqs = {};
  }

  take(message) {
    const { ch, type, symbol, seq, prev_seq } = message;
    if (ch === 'book') {
      const key = `${ch} ${symbol}`;
      const known = this.seqs[key];
      this.seqs[key] = seq;
      if (type === 'snapshot') right(message, { 'a snapshot comes once, first': () => known === undefined });
      else right(message, { 'a delta follows the message before it': () => known !== undefined && prev_seq === known });
    } else if (ch === 'trades' && type !== 'snapshot') {
      right(message, { 'trades are of the symbol': () => symbol === SYMBOL });
    }
  }
}

export function handleSummary(data) {
  return verdict(data, 'subscribe_duration');
}
