// Candles on a canvas. Numbers here are for drawing only; the legend shows the venue's own text.

import { shown } from "./decimal.js";

const AXIS = 62, TIMES = 20, VOLUME_SHARE = 0.16;
const WIDTH_MIN = 2, WIDTH_MAX = 40;

export class Chart {
  /** Oldest first: {start (s), open, high, low, close, volume: text, trades}. */
  candles = [];
  seconds = 60;
  digits = 2;

  #canvas; #context; #legend; #draw = 0;
  #width = 7;
  /** Candles between the newest one and the right edge: below 0 they run out to the right. */
  #back = -2;
  #pointer = null;
  #drag = null;
  #colors = {};

  constructor(canvas, legend) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#legend = legend;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    canvas.addEventListener("pointermove", (event) => this.#onPointer(event));
    canvas.addEventListener("pointerdown", (event) => {
      this.#drag = { x: event.offsetX, back: this.#back };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", () => (this.#drag = null));
    canvas.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.redraw();
    });
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    this.recolor();
  }

  show(candles, seconds, digits) {
    this.candles = candles;
    this.seconds = seconds;
    this.digits = digits;
    this.#back = -2;
    // A few candles are drawn wide rather than lost at the edge.
    const room = (this.#canvas.clientWidth - AXIS) / (candles.length + 4);
    this.#width = Math.min(13, Math.max(7, room));
    this.redraw();
  }

  recolor() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["panel", "line", "line-strong", "text", "soft", "buy", "sell", "buy-fill", "sell-fill", "accent", "raised"])
      this.#colors[name] = style.getPropertyValue(`--${name}`).trim();
    this.redraw();
  }

  redraw() {
    this.#draw ||= requestAnimationFrame(() => {
      this.#draw = 0;
      this.#paint();
    });
  }

  #onWheel(event) {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.#pan(-event.deltaX / this.#width);
    else this.#zoom(event.deltaY < 0 ? 1.12 : 1 / 1.12);
  }

  #onPointer(event) {
    this.#pointer = { x: event.offsetX, y: event.offsetY };
    if (this.#drag) this.#back = this.#clamp(this.#drag.back + (event.offsetX - this.#drag.x) / this.#width);
    this.redraw();
  }

  #onKey(event) {
    const act = {
      ArrowLeft: () => this.#pan(4), ArrowRight: () => this.#pan(-4), Home: () => (this.#back = -2),
      "+": () => this.#zoom(1.25), "=": () => this.#zoom(1.25), "-": () => this.#zoom(0.8),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    this.redraw();
  }

  #pan(by) {
    this.#back = this.#clamp(this.#back + by);
    this.redraw();
  }

  #zoom(by) {
    this.#width = Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, this.#width * by));
    this.redraw();
  }

  #clamp = (back) => Math.min(Math.max(back, -30), Math.max(0, this.candles.length - 5));

  #paint() {
    const canvas = this.#canvas, paint = this.#context, color = this.#colors;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    paint.font = "10.5px Inter, system-ui, sans-serif";
    paint.fontKerning = "none";
    paint.textBaseline = "middle";

    const right = width - AXIS, bottom = height - TIMES, step = this.#width;
    const last = this.candles.length - 1;
    const x = (index) => right - (last - index - this.#back + 0.5) * step;
    const from = Math.max(0, Math.floor(last - this.#back - right / step)), to = Math.min(last, Math.ceil(last - this.#back));
    const seen = this.candles.slice(from, to + 1);
    if (!seen.length) {
      this.#legend.replaceChildren();
      canvas.setAttribute("aria-label", "Candle chart: no candles");
      return;
    }
    let low = Math.min(...seen.map((one) => one.low)), high = Math.max(...seen.map((one) => one.high));
    const margin = (high - low || high * 0.001) * 0.08;
    low -= margin;
    high += margin;
    const priceBottom = bottom - bottom * VOLUME_SHARE - 6;
    const y = (price) => 8 + ((high - price) / (high - low)) * (priceBottom - 8);
    const most = Math.max(...seen.map((one) => Number(one.volume)));

    // Lines behind, and the two scales.
    paint.strokeStyle = color.line;
    paint.fillStyle = color.soft;
    paint.lineWidth = 1;
    paint.textAlign = "left";
    for (const price of ticks(low, high, Math.max(2, Math.floor(priceBottom / 44)))) {
      line(paint, 0, y(price), right, y(price));
      // The newest price is written over the scale: no number half below it.
      if (Math.abs(y(price) - y(this.candles[last].close)) > 13) paint.fillText(number(price, this.digits), right + 7, y(price));
    }
    paint.textAlign = "center";
    for (const { at, label } of this.#times(from, to, Math.max(70, step * 8) / step)) {
      line(paint, x(at), 0, x(at), bottom);
      paint.fillText(label, Math.min(Math.max(x(at), 26), right - 14), bottom + TIMES / 2 + 1);
    }
    paint.strokeStyle = color["line-strong"];
    line(paint, right, 0, right, height);
    line(paint, 0, bottom, width, bottom);

    paint.save();
    paint.beginPath();
    paint.rect(0, 0, right, bottom);
    paint.clip();
    const body = Math.max(1, Math.floor(step * 0.7));
    seen.forEach((candle, i) => {
      const middle = Math.round(x(from + i)) + 0.5, up = candle.close >= candle.open;
      const tall = (Number(candle.volume) / most) * bottom * VOLUME_SHARE;
      paint.fillStyle = up ? color["buy-fill"] : color["sell-fill"];
      paint.fillRect(middle - body / 2, bottom - tall, body, tall);
      paint.strokeStyle = paint.fillStyle = up ? color.buy : color.sell;
      line(paint, middle, y(candle.high), middle, y(candle.low), true);
      const top = y(Math.max(candle.open, candle.close)), base = y(Math.min(candle.open, candle.close));
      paint.fillRect(middle - body / 2, top, body, Math.max(1, base - top));
    });
    paint.restore();

    const newest = this.candles[last];
    this.#tag(y(newest.close), newest.close, newest.close >= newest.open ? color.buy : color.sell, right, width);
    this.#cross(seen, from, x, y, right, bottom, width, low, high, priceBottom);
    canvas.setAttribute("aria-label", `Candle chart, ${this.candles.length} candles; the newest closes at ${newest.texts.close}`);
  }

  /** The last price, on the scale. */
  #tag(at, price, color, right, width) {
    const paint = this.#context;
    at = Math.round(at) + 0.5;
    paint.setLineDash([2, 3]);
    paint.strokeStyle = color;
    line(paint, 0, at, right, at);
    paint.setLineDash([]);
    paint.fillStyle = color;
    paint.fillRect(right + 1, at - 8, width - right, 16);
    paint.fillStyle = this.#colors.panel;
    paint.textAlign = "left";
    paint.fillText(number(price, this.digits), right + 7, at + 0.5);
  }

  #cross(seen, from, x, y, right, bottom, width, low, high, priceBottom) {
    const paint = this.#context, color = this.#colors, pointer = this.#pointer;
    let chosen = this.candles.at(-1);
    if (pointer && pointer.x < right && pointer.y < bottom) {
      let index = Math.round((pointer.x - x(from)) / this.#width);
      index = Math.min(Math.max(index, 0), seen.length - 1);
      chosen = seen[index];
      paint.setLineDash([3, 3]);
      paint.strokeStyle = color.soft;
      line(paint, x(from + index), 0, x(from + index), bottom);
      line(paint, 0, pointer.y, right, pointer.y);
      paint.setLineDash([]);
      const price = high - ((pointer.y - 8) / (priceBottom - 8)) * (high - low);
      if (pointer.y < priceBottom) {
        paint.fillStyle = color.text;
        paint.fillRect(right + 1, pointer.y - 8, width - right, 16);
        paint.fillStyle = color.panel;
        paint.textAlign = "left";
        paint.fillText(number(price, this.digits), right + 7, pointer.y + 0.5);
      }
    }
    this.#legend.replaceChildren(...legendOf(chosen, this.seconds, this.digits));
  }

  /** Where the time scale has a mark: at round times, not closer than `apart` candles. */
  #times(from, to, apart) {
    const marks = [];
    let before = -Infinity;
    for (let i = from; i <= to; i++) {
      if (i - before < apart) continue;
      const at = new Date(this.candles[i].start * 1000);
      const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}`;
      const day = `${pad(at.getDate())} ${at.toLocaleString("en", { month: "short" })}`;
      const newDay = i > 0 && new Date(this.candles[i - 1].start * 1000).getDate() !== at.getDate();
      const label = this.seconds >= 86_400 || newDay ? day : this.seconds < 60 ? `${clock}:${pad(at.getSeconds())}` : clock;
      marks.push({ at: i, label });
      before = i;
    }
    return marks;
  }
}

const pad = (n) => String(n).padStart(2, "0");
const number = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function line(paint, x1, y1, x2, y2, exact = false) {
  const shift = exact ? 0 : 0.5;
  paint.beginPath();
  paint.moveTo(exact ? x1 : Math.round(x1) + shift, exact ? y1 : Math.round(y1) + shift);
  paint.lineTo(exact ? x2 : Math.round(x2) + shift, exact ? y2 : Math.round(y2) + shift);
  paint.stroke();
}

/** Round numbers between two bounds. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found;
}

function legendOf(candle, seconds, digits) {
  const at = new Date(candle.start * 1000);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  const time = seconds >= 86_400 ? day : `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}${seconds < 60 ? `:${pad(at.getSeconds())}` : ""}`;
  const price = (text) => shown(text, digits);
  const { open, high, low, close, volume } = candle.texts;
  const cells = [["", time], ["O", price(open)], ["H", price(high)], ["L", price(low)], ["C", price(close)], ["V", shown(volume)]];
  return cells.map(([name, value]) => {
    const cell = document.createElement("span"), bold = document.createElement("b");
    bold.textContent = value;
    cell.append(name, bold);
    return cell;
  });
}
