// A book kept in step with the venue's: a snapshot, then deltas that follow each other, and after each of them
// the checksum that the venue has computed over its own book. What does not fit is never shown.

import { units } from "./decimal.js";

const CHECKSUM_LEVELS = 10;

const CRC = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

export function crc32(text) {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) crc = CRC[(crc ^ text.charCodeAt(i)) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

export class Book {
  constructor() {
    this.bids = [];
    this.asks = [];
    this.seq = this.epoch = -1;
    this.verified = 0;
  }

  /** Take one message; false: the book is out of step and empty until the next snapshot. */
  take(message) {
    if (message.type === "snapshot") {
      this.bids = message.bids.map(level);
      this.asks = message.asks.map(level);
      this.epoch = message.epoch;
    } else if (message.prev_seq !== this.seq || message.epoch !== this.epoch) {
      return this.lose();
    } else {
      for (const each of message.bids) change(this.bids, each, (a, b) => a > b);
      for (const each of message.asks) change(this.asks, each, (a, b) => a < b);
    }
    this.seq = message.seq;
    if (this.checksum() !== message.checksum) return this.lose();
    this.verified += 1;
    return true;
  }

  lose() {
    this.bids = [];
    this.asks = [];
    this.seq = -1;
    return false;
  }

  checksum() {
    const best = [...this.bids.slice(0, CHECKSUM_LEVELS), ...this.asks.slice(0, CHECKSUM_LEVELS)];
    return crc32(best.map((one) => `${one.price}:${one.quantity}`).join(","));
  }
}

const level = ([price, quantity]) => ({ price, quantity, key: units(price), units: units(quantity) });

/** Set or delete one level of a half that is sorted best first. */
function change(half, [price, quantity], better) {
  const key = units(price);
  let low = 0, high = half.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (better(half[middle].key, key)) low = middle + 1;
    else high = middle;
  }
  const there = half[low]?.key === key;
  if (quantity === "0") {
    if (there) half.splice(low, 1);
  } else {
    half.splice(low, there ? 1 : 0, level([price, quantity]));
  }
}
