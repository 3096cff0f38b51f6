// The page: what is known, and how it is shown. book.js keeps the book, venue.js talks, chart.js draws.

import { Book } from "./book.js";
import { Chart } from "./chart.js";
import { ONE, clock, places, shown, text, times, units } from "./decimal.js";
import { Elsewhere, Refused, Rest, Streams, Unreachable } from "./venue.js";

const DEPTH = 100;
const TRADES_SHOWN = 200;
const CANDLES = 500;
const ROWS_SHOWN = 200;
const POLL_MS = 2_000;
const ASK_AGAIN_MS = [300, 700, 1_500, 3_000, 5_000];
const INTERVALS = { "1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400 };
const TOKEN_KEY = "tradsys.token", THEME_KEY = "tradsys.theme", VIEW_KEY = "tradsys.view";

const $ = (id) => document.getElementById(id);
const form = $("ticket"), field = form.elements;

// Everything of query's lies beside this file, also where an ingress puts a path before it.
const beside = (name) => new URL(name, import.meta.url);
const settings = await (await fetch(beside("settings.json"), { cache: "no-store" })).json();
const engine = new Rest(settings.engine), query = new Rest(beside("..").href.replace(/\/$/, ""));
const streams = new Streams(settings.streams);
const chart = new Chart($("chart"), $("legend"));

const state = {
  symbols: new Map(), symbol: "", interval: "1m",
  book: new Book(), bookKnown: false, ticker: null, trades: [], tradesKnown: false, resyncs: 0,
  candles: null, day: null,
  account: "", mode: "", orders: new Map(), ordersKnown: false, balances: new Map(), positions: [],
  fills: null, history: null, tab: "orders",
  engineDownSince: null, queryDownSince: null, streamDownSince: Date.now(), tokenProblem: "", lag: null,
  orderMs: null, chosen: null,
};

// --- small things -----------------------------------------------------------------------------------------

/** An element: el("td.soft", {title}, child, …). */
function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const put = (id, value) => {
  const there = $(id);
  if (there.textContent !== value) there.textContent = value;
};
const words = (word) => word.replaceAll("_", " ");
const instrument = () => state.symbols.get(state.symbol);
const priceDigits = (symbol = state.symbol) => places(state.symbols.get(symbol)?.tick_size);
const lotDigits = (symbol = state.symbol) => places(state.symbols.get(symbol)?.lot_size);
const ms = (value) => (value === null ? "–" : value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

const due = new Set();
/** Show a part again, at most once a frame. */
function show(...parts) {
  if (!due.size) requestAnimationFrame(() => {
    const now = [...due];
    due.clear();
    for (const part of now) part();
  });
  for (const part of parts) due.add(part);
}

// --- ticker, book, trades ---------------------------------------------------------------------------------

function showQuote() {
  const ticker = state.ticker, digits = priceDigits(), day = state.day;
  put("q-last", shown(ticker?.last, digits));
  put("q-bid", shown(ticker?.bid, digits));
  put("q-ask", shown(ticker?.ask, digits));
  const spread = ticker?.bid && ticker?.ask ? units(ticker.ask) - units(ticker.bid) : null;
  put("q-spread", shown(spread, digits));
  put("q-high", shown(day?.texts.high, digits));
  put("q-low", shown(day?.texts.low, digits));
  put("q-volume", day ? `${shown(day.texts.volume)} ${instrument()?.base ?? ""}` : "–");
  const status = ticker?.status ?? "trading";
  $("q-status-box").hidden = status === "trading";
  put("q-status", words(status));
  document.title = ticker?.last ? `${shown(ticker.last, digits)} ${state.symbol} · tradsys` : "tradsys";
}

const levelHeight = () => $("ladder").querySelector(".level")?.offsetHeight || 19;

function ladderRows() {
  const room = $("ladder").clientHeight - 31;
  return Math.max(3, Math.min(DEPTH, Math.floor(room / 2 / levelHeight())));
}

const ladder = { asks: el("div.half.asks", { role: "presentation" }), bids: el("div.half.bids", { role: "presentation" }),
  mid: el("div.mid", { role: "presentation" }, el("b"), el("span")), empty: el("p.empty", { hidden: true }) };
$("ladder").append(ladder.asks, ladder.mid, ladder.bids);
ladder.bids.before(ladder.empty);

function showLadder() {
  const rows = ladderRows(), own = ownPrices();
  const halves = { asks: state.book.asks.slice(0, rows), bids: state.book.bids.slice(0, rows) };
  const most = [halves.asks, halves.bids].map((half) => half.reduce((sum, level) => sum + level.units, 0n));
  const scale = most[0] > most[1] ? most[0] : most[1];
  for (const side of ["asks", "bids"]) {
    const half = ladder[side];
    while (half.children.length < halves[side].length) half.append(emptyLevel());
    while (half.children.length > halves[side].length) half.lastChild.remove();
    let total = 0n;
    halves[side].forEach((level, i) => {
      total += level.units;
      // The best ask stands at the bottom of its half.
      const row = half.children[side === "asks" ? halves.asks.length - 1 - i : i];
      fillLevel(row, side, level, total, scale, own.has(`${side}:${level.price}`));
    });
  }
  const { bids, asks } = state.book;
  const [price, note] = ladder.mid.children;
  price.textContent = shown(state.ticker?.last, priceDigits());
  const lastTrade = state.trades[0];
  price.className = lastTrade?.taker_side ?? "";
  note.textContent = bids.length && asks.length ? `spread ${shown(asks[0].key - bids[0].key, priceDigits())}` : "";
  const nothing = state.bookKnown && !bids.length && !asks.length;
  ladder.empty.hidden = state.bookKnown && !nothing;
  ladder.empty.textContent = nothing ? "No orders rest in this book. The first limit order opens it." : streams.state === "down" ? "No book: the streams are not connected." : "Waiting for the book…";
  put("book-note", state.bookKnown && !nothing ? `${bids.length} × ${asks.length} levels, verified` : "");
}

const emptyLevel = () => el("div.level", { role: "option" }, el("span"), el("span"), el("span"));

function fillLevel(row, side, level, total, scale, own) {
  const [price, quantity, sum] = row.children;
  const priceText = shown(level.price, priceDigits()), quantityText = shown(level.quantity, lotDigits());
  if (price.textContent !== priceText) price.textContent = priceText;
  if (quantity.textContent !== quantityText) quantity.textContent = quantityText;
  const totalText = shown(total, lotDigits());
  if (sum.textContent !== totalText) sum.textContent = totalText;
  row.style.setProperty("--fill", `${Number((total * 1000n) / (scale || 1n)) / 10}%`);
  row.dataset.price = level.price;
  row.dataset.quantity = text(total);
  row.classList.toggle("mine", own);
  row.classList.toggle("chosen", state.chosen === level.price && document.activeElement === $("ladder"));
  row.id = `level-${side}-${level.price}`;
  row.setAttribute("aria-selected", state.chosen === level.price);
  row.setAttribute("aria-label", `${side === "asks" ? "ask" : "bid"} ${priceText}, ${quantityText}${own ? ", with an order of yours" : ""}`);
}

function ownPrices() {
  const found = new Set();
  for (const order of state.orders.values())
    if (order.symbol === state.symbol && order.price) found.add(`${order.side === "buy" ? "bids" : "asks"}:${order.price}`);
  return found;
}

function chooseLevel(row, intoTicket) {
  if (!row?.dataset.price) return;
  state.chosen = row.dataset.price;
  $("ladder").setAttribute("aria-activedescendant", row.id);
  show(showLadder);
  if (!intoTicket) return;
  if (field.price.closest("label").hidden) setField("type", "limit");
  field.price.value = row.dataset.price;
  ticketChanged();
}

$("ladder").addEventListener("click", (event) => chooseLevel(event.target.closest(".level"), true));
$("ladder").addEventListener("keydown", (event) => {
  const rows = [...$("ladder").querySelectorAll(".level")];
  const at = rows.findIndex((row) => row.dataset.price === state.chosen);
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step && rows.length) {
    event.preventDefault();
    chooseLevel(rows[at < 0 ? ladder.asks.children.length - (step < 0) : Math.min(Math.max(at + step, 0), rows.length - 1)]);
  } else if (event.key === "Enter" && at >= 0) {
    chooseLevel(rows[at], true);
    field.quantity.focus();
  }
});
$("ladder").addEventListener("focus", () => show(showLadder));
$("ladder").addEventListener("blur", () => show(showLadder));

function showTrades() {
  const digits = priceDigits(), list = $("trades");
  if (!state.trades.length) {
    list.replaceChildren(el("li.empty", {}, state.tradesKnown ? "Nothing has been traded yet." : "Waiting for trades…"));
    return;
  }
  list.replaceChildren(...state.trades.slice(0, TRADES_SHOWN).map((trade) =>
    el("li", { title: `trade ${trade.trade_id}, the taker's side: ${trade.taker_side}` },
      el(`span.${trade.taker_side}`, {}, shown(trade.price, digits)),
      el("span", {}, shown(trade.quantity, lotDigits())),
      el("span", {}, clock(trade.ts).slice(-8)))));
}

// --- candles ----------------------------------------------------------------------------------------------

const candle = (start, texts, trades) => ({ start, texts, trades, open: Number(texts.open), high: Number(texts.high),
  low: Number(texts.low), close: Number(texts.close), volume: Number(texts.volume) });

async function loadCandles() {
  const { symbol, interval } = state;
  state.candles = null;
  showCandles();
  try {
    const [page, days] = await Promise.all([
      query.get(`/market/${symbol}/candles?interval=${interval}&limit=${CANDLES}`),
      query.get(`/market/${symbol}/candles?interval=1d&limit=1`),
    ]);
    if (symbol !== state.symbol || interval !== state.interval) return;
    const made = (item) => candle(Number(BigInt(item.start_ts) / 1_000_000_000n), item, item.trades);
    state.candles = page.items.map(made).reverse();
    const today = Math.floor(Date.now() / 86_400_000) * 86_400;
    state.day = days.items.map(made).find((day) => day.start === today) ?? null;
    // The read model may be a moment behind the streams: what it lacks is added from the trades here.
    const read = Number(query.headers.get("X-Read-Seq"));
    for (const trade of [...state.trades].reverse()) if (trade.seq > read) addToCandles(trade);
  } catch (failure) {
    if (symbol === state.symbol) setTimeout(() => state.candles === null && symbol === state.symbol && loadCandles(), POLL_MS);
    noteFailure(query, failure);
  }
  showCandles();
  show(showQuote);
}

function addToCandles(trade) {
  if (!state.candles) return;
  const at = Number(BigInt(trade.ts) / 1_000_000_000n);
  const put = (before, seconds) => {
    const start = at - (at % seconds);
    if (before && start < before.start) return before;
    if (before?.start !== start)
      return candle(start, { open: trade.price, high: trade.price, low: trade.price, close: trade.price, volume: trade.quantity }, 1);
    const texts = { ...before.texts, close: trade.price, volume: text(units(before.texts.volume) + units(trade.quantity)) };
    if (units(trade.price) > units(texts.high)) texts.high = trade.price;
    if (units(trade.price) < units(texts.low)) texts.low = trade.price;
    return candle(start, texts, before.trades + 1);
  };
  const newest = state.candles.at(-1), next = put(newest, INTERVALS[state.interval]);
  if (next.start === newest?.start) state.candles[state.candles.length - 1] = next;
  else state.candles.push(next);
  state.day = put(state.day, 86_400);
}

function showCandles() {
  const empty = $("chart-empty");
  empty.hidden = Boolean(state.candles?.length);
  empty.textContent = state.candles ? "No candles yet: nothing has been traded." : state.queryDownSince ? "No candles: query does not answer." : "Loading candles…";
  chart.show(state.candles ?? [], INTERVALS[state.interval], priceDigits());
}

function setInterval_(interval) {
  state.interval = interval;
  for (const input of $("intervals").querySelectorAll("input")) input.checked = input.value === interval;
  remember();
  loadCandles();
}

$("intervals").append(...Object.keys(INTERVALS).map((word) =>
  el("label", {}, el("input", { type: "radio", name: "interval", value: word, onchange: () => setInterval_(word) }), el("span", {}, word))));

// --- the ticket -------------------------------------------------------------------------------------------

function setField(name, value) {
  field[name].value = value;
  form.dispatchEvent(new Event("input"));
}

function ticketChanged() {
  const type = field.type.value, symbol = instrument();
  const has = { price: type === "limit" || type === "stop_limit", stop_price: type.startsWith("stop"),
    expire_at: field.time_in_force.value === "gtd", post_only: type === "limit", display_quantity: type === "limit" || type === "stop_limit" };
  for (const label of form.querySelectorAll("[data-for]")) label.hidden = !has[label.dataset.for];
  // A market order never rests.
  field.time_in_force.disabled = type === "market";
  for (const unit of form.querySelectorAll("[data-unit]")) unit.textContent = symbol?.[unit.dataset.unit] ?? "";
  const side = field.side.value, submit = form.querySelector(".submit");
  submit.className = `submit ${side}`;
  submit.textContent = `${side === "buy" ? "Buy" : "Sell"} ${symbol?.base ?? ""}`;
  submit.disabled = !state.account || state.engineDownSince !== null;
  submit.title = !state.account ? "Sign in first" : state.engineDownSince ? "The engine does not answer" : "";
  const quantity = units(field.quantity.value), price = units(field.price.value);
  put("notional", has.price && quantity && price ? `${shown(times(quantity, price), 2)} ${symbol?.quote ?? ""}` : "–");
  const asset = side === "buy" ? symbol?.quote : symbol?.base, balance = state.balances.get(asset);
  put("available", !state.account ? "–" : state.mode === "limits" ? "by limits" : `${shown(balance?.free ?? "0")} ${asset}`);
  for (const name of ["price", "stop_price", "quantity", "display_quantity"]) field[name].removeAttribute("aria-invalid");
}

function orderFromTicket() {
  const order = { symbol: state.symbol, side: field.side.value, type: field.type.value, quantity: field.quantity.value.trim(),
    client_order_id: crypto.randomUUID?.() ?? `c-${Date.now()}-${Math.floor(Math.random() * 1e9)}` };
  const has = (name) => !form.querySelector(`[data-for="${name}"]`).hidden;
  for (const name of ["price", "stop_price"]) if (has(name)) order[name] = field[name].value.trim();
  if (order.type !== "market") order.time_in_force = field.time_in_force.value;
  if (has("expire_at")) order.expire_at = String(BigInt(new Date(field.expire_at.value).getTime() || 0) * 1_000_000n);
  if (has("post_only") && field.post_only.checked) order.post_only = true;
  if (has("display_quantity") && field.display_quantity.value.trim()) order.display_quantity = field.display_quantity.value.trim();
  if (field.stp.value !== "none") order.stp = field.stp.value;
  return order;
}

function complain(name, problem) {
  field[name].setAttribute("aria-invalid", "true");
  field[name].focus();
  outcome("bad", problem);
}

function outcome(kind, ...what) {
  $("outcome").className = `outcome ${kind}`;
  $("outcome").replaceChildren(...what);
}

form.addEventListener("input", ticketChanged);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (form.querySelector(".submit").disabled) return;
  const order = orderFromTicket();
  for (const name of ["stop_price", "price", "quantity"]) {
    if (!(name in order)) continue;
    if (!units(order[name]) || units(order[name]) <= 0n) return complain(name, `${words(name)} is a number above 0, like 12.5`);
  }
  if (order.expire_at === "0") return complain("expire_at", "expires needs a date and a time");
  send(order);
});
for (const name of ["price", "stop_price", "quantity", "display_quantity"]) {
  field[name].addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1n, ArrowDown: -1n }[event.key];
    const grid = units(name.includes("price") ? instrument()?.tick_size : instrument()?.lot_size);
    if (!step || !grid) return;
    event.preventDefault();
    const now = units(field[name].value) ?? 0n, next = now + step * grid * (event.shiftKey ? 10n : 1n);
    field[name].value = text(next > 0n ? next : 0n);
    ticketChanged();
  });
}

const told = (order) => `${order.side} ${shown(order.quantity)} ${order.symbol}`;

async function send(order) {
  outcome("", `Sending ${told(order)}…`);
  const began = performance.now();
  try {
    const reply = await engine.ask("POST", "/orders", order);
    state.orderMs = performance.now() - began;
    showPlaced(reply);
  } catch (failure) {
    if (failure instanceof Refused && failure.code !== 1001) {
      const where = failure.details.field in field ? failure.details.field : null;
      if (where) complain(where, "");
      outcome("bad", `${failure.code}: ${failure.message}`);
      noteFailure(engine, failure);
    } else {
      await findOut(order, failure);
    }
  }
}

function showPlaced(order) {
  takeOrders([order]);
  const at = order.avg_price ? ` at ${shown(order.avg_price, priceDigits(order.symbol))}` : "";
  const filled = order.filled_quantity !== "0" ? `, ${shown(order.filled_quantity)} filled${at}` : "";
  const rests = order.status === "new" && order.stop_price ? "waits for its stop price" : order.status === "new" ? "rests" : words(order.status);
  const bad = order.status === "rejected" || order.status === "expired" || order.status === "canceled";
  outcome(bad && order.filled_quantity === "0" ? "open" : "good", `${order.order_id} ${rests}${filled} · ${ms(state.orderMs)}`);
}

/** There was no answer to an order: whether it was taken is unknown until the venue says so. */
async function findOut(order, failure) {
  noteFailure(engine, failure);
  const again = el("button", { type: "button", title: "Safe: the venue takes the same order only once", onclick: () => send(order) }, "Send it again");
  for (const wait of ASK_AGAIN_MS) {
    outcome("open", `No answer to ${told(order)} (${failure.message}). Asking what became of it…`);
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      return showPlaced(await orderByClient(order.client_order_id));
    } catch (problem) {
      // Not said before the read model knows everything that had been journalled when it was asked.
      if (problem instanceof Refused && problem.code === 1007)
        return outcome("bad", `${told(order)} did not reach the venue.`, again);
    }
  }
  outcome("open", `Whether ${told(order)} was taken is unknown.`, again);
}

async function orderByClient(id) {
  try {
    return await engine.get(`/orders/by-client/${id}`);
  } catch (problem) {
    if (problem instanceof Elsewhere) return await query.get(`/orders/by-client/${id}`);
    throw problem;
  }
}

async function cancel(order, button) {
  button.disabled = true;
  try {
    takeOrders([await engine.ask("DELETE", `/orders/${order.order_id}`)]);
    outcome("", `${order.order_id} canceled`);
  } catch (failure) {
    button.disabled = false;
    outcome("bad", `${order.order_id} is not canceled: ${failure.message}`);
    noteFailure(engine, failure);
  }
}

async function cancelAll() {
  if (!state.orders.size) return;
  $("cancel-what").textContent = `${state.orders.size} open ${state.orders.size === 1 ? "order" : "orders"} of ${state.account}, in every symbol.`;
  const dialog = $("d-cancel");
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  try {
    await engine.ask("DELETE", "/orders");
    outcome("", "All open orders are being canceled");
  } catch (failure) {
    outcome("bad", `Not canceled: ${failure.message}`);
    noteFailure(engine, failure);
  }
}
$("cancel-all").addEventListener("click", cancelAll);

// --- own orders, fills, balances --------------------------------------------------------------------------

const isOpen = (order) => order.status === "new" || order.status === "partially_filled";

function takeOrders(orders) {
  for (const order of orders) {
    const known = state.orders.get(order.order_id);
    if (known && known.seq > order.seq) continue;
    if (isOpen(order)) state.orders.set(order.order_id, order);
    else {
      state.orders.delete(order.order_id);
      if (state.history && !state.history.some((one) => one.order_id === order.order_id && one.seq >= order.seq))
        state.history = [order, ...state.history.filter((one) => one.order_id !== order.order_id)].slice(0, ROWS_SHOWN);
    }
    for (const fill of order.fills) takeFill({ ...fill, order_id: order.order_id, symbol: order.symbol, side: order.side });
  }
  show(showOwn, showLadder);
}

function takeFill(fill) {
  if (!state.fills || state.fills.some((one) => one.trade_id === fill.trade_id && one.order_id === fill.order_id)) return;
  state.fills = [fill, ...state.fills].sort((a, b) => b.trade_id - a.trade_id).slice(0, ROWS_SHOWN);
  loadPositions();
}

/** Open orders from the engine itself, for as long as the streams don't bring them. */
async function loadOrders() {
  try {
    const page = await engine.get("/orders?status=open&limit=1000");
    if (streams.state === "live") return;
    state.orders = new Map(page.items.map((order) => [order.order_id, order]));
    state.ordersKnown = true;
    show(showOwn, showLadder);
  } catch (failure) {
    noteFailure(engine, failure);
  }
}

async function loadPast() {
  try {
    const [fills, orders] = await Promise.all([query.get("/fills?limit=100"), query.get("/orders?limit=100")]);
    state.fills = fills.items;
    state.history = orders.items.filter((order) => !isOpen(order));
  } catch (failure) {
    noteFailure(query, failure);
    if (failure instanceof Unreachable || failure.status === 503) setTimeout(() => state.account && !state.fills && loadPast(), POLL_MS);
  }
  show(showOwn);
}

let positionsDue = 0;
function loadPositions() {
  positionsDue ||= setTimeout(async () => {
    positionsDue = 0;
    try {
      state.positions = (await engine.get("/positions")).items;
      show(showOwn);
    } catch (failure) {
      noteFailure(engine, failure);
    }
  }, 250);
}

const TABS = ["orders", "fills", "history", "funds"];

function chooseTab(name, focus = false) {
  state.tab = name;
  for (const each of TABS) {
    const tab = $(`tab-${each}`);
    tab.setAttribute("aria-selected", each === name);
    tab.tabIndex = each === name ? 0 : -1;
    if (focus && each === name) tab.focus();
  }
  $("own").setAttribute("aria-labelledby", `tab-${name}`);
  remember();
  show(showOwn);
}
for (const name of TABS) {
  $(`tab-${name}`).addEventListener("click", () => chooseTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) chooseTab(TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length], true);
  });
}

function table(columns, rows) {
  const cell = (tag, [name, align], content) => el(`${tag}${align ? "." + align : ""}`, tag === "th" ? { scope: "col" } : {}, content);
  return el("table", {},
    el("thead", {}, el("tr", {}, ...columns.map((column) => cell("th", column, column[0])))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((content, i) => cell("td", columns[i], content))))));
}

const sideOf = (word) => el(`span.${word}`, {}, word);
const orDash = (value, digits) => (value ? shown(value, digits) : "–");

function showOwn() {
  const box = $("own");
  put("n-orders", state.account && state.ordersKnown ? String(state.orders.size) : "");
  $("cancel-all").hidden = state.tab !== "orders" || !state.orders.size;
  const say = (...what) => {
    box.dataset.key = "";
    box.replaceChildren(el("p.empty", {}, ...what));
  };
  if (!state.account) return say(state.tokenProblem || "Sign in to see your orders and to trade. ", el("br"), el("button", { type: "button", onclick: askForToken }, "Sign in"));
  if (state.tab === "orders") {
    if (!state.ordersKnown) return say(streams.state === "live" ? "Waiting for your orders…" : "Your orders are not known: neither the streams nor the engine answer.");
    if (!state.orders.size) return say("You have no open orders.");
    // Buttons must not be exchanged under a pointer: rows stay as long as nothing about them changes.
    const rows = [...state.orders.values()].sort((a, b) => b.seq - a.seq);
    const key = rows.map((order) => `${order.order_id}:${order.seq}:${order.filled_quantity}`).join();
    if (box.dataset.key === `orders ${key}`) return;
    const stop = rows.some((order) => order.stop_price) ? ["Stop"] : ["Stop", "roomy"];
    box.replaceChildren(table(
      [["Time", "left.roomy"], ["Symbol", "left"], ["Side", "left"], ["Type", "left"], ["Price"], stop, ["Quantity"], ["Filled"], ["Order", "left.roomy"], [""]],
      rows.map((order) => {
        const digits = priceDigits(order.symbol);
        const button = el("button", { type: "button", "aria-label": `Cancel ${order.order_id}`, onclick: () => cancel(order, button) }, "Cancel");
        return [clock(order.created_ts), order.symbol, sideOf(order.side), `${words(order.type)} ${order.time_in_force}`, orDash(order.price, digits),
          orDash(order.stop_price, digits), shown(order.quantity, lotDigits(order.symbol)), shown(order.filled_quantity, lotDigits(order.symbol)), order.order_id, button];
      })));
    box.dataset.key = `orders ${key}`;
    return;
  }
  box.dataset.key = "";
  if (state.tab === "fills") {
    if (!state.fills) return say(state.queryDownSince ? "No fills: query does not answer." : "Loading fills…");
    if (!state.fills.length) return say("Nothing of yours has been filled yet.");
    return box.replaceChildren(table(
      [["Time", "left"], ["Symbol", "left"], ["Side", "left"], ["Price"], ["Quantity"], ["Fee"], ["Liquidity", "left"], ["Trade"], ["Order", "left"]],
      state.fills.map((fill) => [clock(fill.ts), fill.symbol, sideOf(fill.side), shown(fill.price, priceDigits(fill.symbol)),
        shown(fill.quantity, lotDigits(fill.symbol)), shown(fill.fee), fill.liquidity, String(fill.trade_id), fill.order_id])));
  }
  if (state.tab === "history") {
    if (!state.history) return say(state.queryDownSince ? "No history: query does not answer." : "Loading orders…");
    if (!state.history.length) return say("None of your orders has ended yet.");
    return box.replaceChildren(table(
      [["Ended", "left"], ["Symbol", "left"], ["Side", "left"], ["Type", "left"], ["Price"], ["Quantity"], ["Filled"], ["Average"], ["Status", "left"], ["Order", "left"]],
      state.history.map((order) => {
        const digits = priceDigits(order.symbol);
        return [clock(order.updated_ts), order.symbol, sideOf(order.side), `${words(order.type)} ${order.time_in_force}`, orDash(order.price, digits),
          shown(order.quantity, lotDigits(order.symbol)), shown(order.filled_quantity, lotDigits(order.symbol)), orDash(order.avg_price, digits),
          words(order.status) + (order.reason && order.reason !== "requested" ? `, ${words(order.reason)}` : ""), order.order_id];
      })));
  }
  const balances = [...state.balances.values()];
  if (!balances.length && !state.positions.length) return say("No balances and no positions. An account in mode limits trades without a deposit.");
  box.replaceChildren(el("div.columns-2", {},
    table([["Asset", "left"], ["Free"], ["Reserved"], ["Total"]], balances.map((one) => [one.asset, shown(one.free), shown(one.reserved), shown(one.total)])),
    table([["Position", "left"], ["Quantity"], ["Open buys"], ["Open sells"]], state.positions.map((one) => [one.symbol, shown(one.quantity), shown(one.open_buys), shown(one.open_sells)]))));
}

// --- the token --------------------------------------------------------------------------------------------

function askForToken() {
  $("token").value = "";
  put("token-problem", state.tokenProblem);
  $("sign-out").hidden = !state.account;
  put("t-token", state.account ? `Signed in as ${state.account}` : "Sign in");
  if (!$("d-token").open) $("d-token").showModal();
  $("token").focus();
}

async function signIn(token, keep) {
  engine.token = query.token = token;
  state.tokenProblem = "";
  try {
    const me = await engine.get("/accounts/me");
    state.account = me.account;
    state.mode = me.mode;
    if (keep) sessionStorage.setItem(TOKEN_KEY, token);
  } catch (failure) {
    if (failure instanceof Unreachable || failure.status === 503) {
      // The venue is away, which says nothing about the token.
      state.tokenProblem = "The engine does not answer; the token will be tried again.";
      setTimeout(() => engine.token === token && !state.account && signIn(token, keep), POLL_MS);
    } else {
      forgetToken(failure.status === 401 ? `The venue refused the token (${failure.code}: ${failure.message}).` : `${failure.code}: ${failure.message}`);
    }
    noteFailure(engine, failure);
    put("token-problem", state.tokenProblem);
    show(showOwn, showNotices, showAccount);
    return;
  }
  $("d-token").close();
  streams.token = token;
  streams.restart();
  loadPast();
  loadPositions();
  show(showOwn, showNotices, showAccount, ticketChanged);
}

function forgetToken(why = "") {
  sessionStorage.removeItem(TOKEN_KEY);
  const had = state.account || streams.token;
  engine.token = query.token = streams.token = state.account = "";
  Object.assign(state, { orders: new Map(), ordersKnown: false, balances: new Map(), positions: [], fills: null, history: null, tokenProblem: why });
  if (had) streams.restart();
  show(showOwn, showNotices, showAccount, ticketChanged, showLadder);
}

function showAccount() {
  put("account", state.account || "Sign in");
  $("account").classList.toggle("primary", !state.account);
}

$("account").addEventListener("click", askForToken);
$("sign-in").addEventListener("click", () => $("token").value.trim() && signIn($("token").value.trim(), $("token-keep").checked));
$("token").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("sign-in").click();
});
$("sign-out").addEventListener("click", () => {
  forgetToken();
  $("d-token").close();
});

// --- connection -------------------------------------------------------------------------------------------

/** What a failed request says about the process that it was for, and about the token. */
function noteFailure(rest, failure) {
  const down = failure instanceof Unreachable || failure.code === 1020;
  const key = rest === engine ? "engineDownSince" : "queryDownSince";
  if (down) state[key] ??= Date.now();
  else if (failure instanceof Refused) state[key] = null;
  if (failure instanceof Refused && failure.status === 401 && state.account)
    forgetToken(`The venue no longer takes the token (${failure.code}: ${failure.message}).`);
  show(showNotices, showConnection, ticketChanged, showOwn);
}

async function poll() {
  const both = [[engine, "engineDownSince", "/time"], [query, "queryDownSince", "/market/" + (state.symbol || "-") + "/trades?limit=1"]];
  await Promise.all(both.map(async ([rest, key, path]) => {
    try {
      await rest.get(path);
      state[key] = null;
    } catch (failure) {
      if (failure instanceof Refused && failure.code !== 1020) state[key] = null;
      else state[key] ??= Date.now();
    }
    if (rest === query && state[key] === null) {
      const read = query.headers.get("X-Read-Seq");
      if (read !== null) state.lag = Math.max(0, Number(query.headers.get("X-Durable-Seq")) - Number(read));
    }
  }));
  if (state.engineDownSince === null && !state.symbols.size) await loadSymbols();
  if (state.engineDownSince === null && state.account && streams.state !== "live") await loadOrders();
  if (state.queryDownSince === null && state.symbol && state.candles === null) loadCandles();
  show(showNotices, showConnection, ticketChanged);
  setTimeout(poll, POLL_MS);
}

function showConnection() {
  const light = (part, kind, id, value) => {
    document.querySelector(`.light[data-part="${part}"]`).dataset.state = kind;
    put(id, value);
  };
  light("engine", state.engineDownSince ? "bad" : engine.latency.last === null ? "" : "good", "c-engine", state.engineDownSince ? "down" : ms(engine.latency.last));
  const stream = { live: "good", stale: "late", down: "bad", connecting: "" }[streams.state];
  light("streams", stream, "c-streams", streams.state === "live" ? ms(streams.latency.last) : streams.state);
  const late = state.lag > 1000;
  light("history", state.queryDownSince ? "bad" : state.lag === null ? "" : late ? "late" : "good", "c-history", state.queryDownSince ? "down" : state.lag === null ? "–" : late ? `${shown(String(state.lag))} behind` : "current");
  document.body.classList.toggle("stale", streams.state !== "live" && streams.state !== "connecting");
  document.body.classList.toggle("unreachable", streams.state !== "live" && state.engineDownSince !== null);
  if ($("d-connection").open) showFacts();
}

function showFacts() {
  const spread = (latency) => `${ms(latency.last)}, p50 ${ms(latency.at(0.5))}, p99 ${ms(latency.at(0.99))}`;
  const rows = [
    ["Engine", settings.engine], ["Round trip, last 60", spread(engine.latency)],
    ["Inside the engine", engine.engineUs === null ? "–" : `${shown(String(engine.engineUs))} µs`], ["Last order, there and back", ms(state.orderMs)],
    ["Streams", settings.streams], ["Round trip, last 60", spread(streams.latency)], ["Reconnects", String(Math.max(0, streams.reconnects))],
    ["Book", `seq ${state.book.seq}, ${shown(String(state.book.verified))} messages verified by checksum, ${state.resyncs} resyncs`],
    ["Epoch", String(streams.epoch)], ["Read model behind", state.lag === null ? "–" : `${shown(String(state.lag))} commands`],
  ];
  $("connection-facts").replaceChildren(...rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value))));
}
$("connection").addEventListener("click", () => {
  showFacts();
  $("d-connection").showModal();
});

function showNotices() {
  const since = (at) => clock(BigInt(at) * 1_000_000n);
  const found = [];
  if (state.engineDownSince) found.push(["bad", "Engine down", `It has not answered since ${since(state.engineDownSince)}. Orders can't be placed or canceled; what rests keeps its place in the journal. Trying again every 2 s.`]);
  if (streams.state === "down" && state.streamDownSince && Date.now() - state.streamDownSince > 1_500) found.push(["bad", "Streams down", `Book and trades are as of ${since(state.streamDownSince)} and greyed out${state.engineDownSince ? "" : "; own orders come from the engine, every 2 s"}. Connecting again.`]);
  if (streams.state === "stale") found.push(["", "Streams silent", `Nothing has come since ${since(state.streamDownSince)}: what is shown may be old.`]);
  if (state.queryDownSince) found.push(["", "History down", `Candles, fills and ended orders are as of ${since(state.queryDownSince)}.${state.engineDownSince ? "" : " Trading is not affected."}`]);
  if (state.tokenProblem && !state.account && !$("d-token").open) found.push(["", "Token", state.tokenProblem, ["Sign in", askForToken]]);
  const key = JSON.stringify(found);
  if ($("notices").dataset.key === key) return;
  $("notices").dataset.key = key;
  $("notices").replaceChildren(...found.map(([kind, title, what, act]) =>
    el(`div.notice${kind && "." + kind}`, {}, el("b", {}, title), el("span", {}, what), act ? el("button", { type: "button", onclick: act[1] }, act[0]) : null)));
}

// --- streams ----------------------------------------------------------------------------------------------

const channelsOf = (symbol) => [
  { name: "book", symbols: [symbol], depth: DEPTH }, { name: "trades", symbols: [symbol] }, { name: "ticker", symbols: [symbol] },
];

streams.addEventListener("state", () => {
  if (streams.state === "live") state.streamDownSince = null;
  else state.streamDownSince ??= Date.now();
  show(showConnection, showNotices, showOwn, showLadder);
  setTimeout(() => show(showNotices), 1_600);
});
streams.addEventListener("refused", (event) => {
  const { code, message } = event.detail;
  if (state.account && (code === 2002 || code === 2003)) forgetToken(`The streams refused the token (${code}: ${message}).`);
});
streams.addEventListener("message", (event) => {
  const message = event.detail;
  if (message.symbol && message.symbol !== state.symbol) return;
  ({ book: takeBook, trades: takeTrades, ticker: takeTicker, orders: takeOrdersMessage, balances: takeBalances })[message.ch]?.(message);
});

function takeBook(message) {
  if (!state.book.take(message)) {
    // A snapshot that does not fit its own checksum would be asked for again without end.
    state.bookKnown = false;
    state.resyncs += 1;
    if (message.type === "delta") streams.resync(channelsOf(state.symbol)[0]).catch(() => {});
    else setTimeout(() => streams.restart(), POLL_MS);
  } else {
    state.bookKnown = true;
  }
  show(showLadder);
}

function takeTrades(message) {
  const known = new Set(message.type === "snapshot" ? [] : state.trades.slice(0, 50).map((trade) => trade.trade_id));
  const fresh = message.items.filter((trade) => !known.has(trade.trade_id));
  if (message.type === "snapshot") {
    // After an interruption: what the candles have missed.
    const last = state.trades[0]?.trade_id ?? Infinity;
    for (const trade of fresh) if (trade.trade_id > last) addToCandles(trade);
    state.trades = fresh.reverse();
  } else {
    for (const trade of fresh) addToCandles(trade);
    state.trades = [...fresh.reverse(), ...state.trades].slice(0, TRADES_SHOWN);
  }
  state.tradesKnown = true;
  show(showTrades, showQuote, showLadder);
  if (state.candles) {
    chart.candles = state.candles;
    if (state.candles.length && !$("chart-empty").hidden) showCandles();
    chart.redraw();
  }
}

function takeTicker(message) {
  state.ticker = message;
  show(showQuote, showLadder);
}

function takeOrdersMessage(message) {
  if (message.type === "snapshot") {
    if (!state.snapshotGoesOn) state.orders = new Map();
    state.snapshotGoesOn = Boolean(message.more);
    state.ordersKnown = true;
  }
  takeOrders(message.items);
}

function takeBalances(message) {
  if (message.type === "snapshot") state.balances = new Map();
  for (const row of message.items) state.balances.set(row.asset, row);
  show(showOwn, ticketChanged);
}

// --- symbols ----------------------------------------------------------------------------------------------

async function loadSymbols() {
  let items;
  try {
    ({ items } = await engine.get("/symbols"));
  } catch (failure) {
    return noteFailure(engine, failure);
  }
  state.symbols = new Map(items.map((one) => [one.symbol, one]));
  $("symbol").replaceChildren(...items.map((one) => el("option", { value: one.symbol }, one.symbol)));
  if (!items.length) return $("symbol").replaceChildren(el("option", {}, "no symbols"));
  const wanted = remembered.symbol;
  chooseSymbol(state.symbols.has(wanted) ? wanted : items[0].symbol);
}

function chooseSymbol(symbol) {
  const before = state.symbol;
  Object.assign(state, { symbol, book: new Book(), bookKnown: false, ticker: null, trades: [], tradesKnown: false, chosen: null, day: null });
  $("symbol").value = symbol;
  put("l-price", `Price ${instrument().quote}`);
  put("l-quantity", `Quantity ${instrument().base}`);
  setField("price", "");
  setField("quantity", "");
  outcome("");
  remember();
  if (before) streams.replace(channelsOf(before), channelsOf(symbol)).catch(() => {});
  else {
    streams.channels = channelsOf(symbol);
    streams.restart();
  }
  loadCandles();
  show(showQuote, showLadder, showTrades, ticketChanged);
}
$("symbol").addEventListener("change", () => chooseSymbol($("symbol").value));

// --- theme, keyboard --------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  chart.recolor();
}
const chosenTheme = () => localStorage.getItem(THEME_KEY) ?? (dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(chosenTheme()));
function switchTheme() {
  localStorage.setItem(THEME_KEY, chosenTheme() === "dark" ? "light" : "dark");
  setTheme(chosenTheme());
}
$("theme").addEventListener("click", switchTheme);

const SHORTCUTS = [
  ["B", "buy: to the quantity", () => side("buy")], ["S", "sell: to the quantity", () => side("sell")],
  ["P", "price", () => field.price.focus()], ["Q", "quantity", () => field.quantity.focus()],
  ["L", "order book: ↑ ↓ choose a price, Enter takes it", () => $("ladder").focus()],
  ["G", "chart: ← → move, + − zoom, Home newest", () => $("chart").focus()],
  ["1 … 7", "candles of 1s, 1m, 5m, 15m, 1h, 4h, 1d", null],
  ["O", "open orders", () => chooseTab("orders", true)], ["F", "fills", () => chooseTab("fills", true)],
  ["H", "order history", () => chooseTab("history", true)], ["A", "balances", () => chooseTab("funds", true)],
  ["X", "cancel all open orders, after a question", cancelAll], ["/", "symbol", () => $("symbol").focus()],
  ["C", "connection and latencies", () => $("connection").click()], ["T", "light or dark", switchTheme],
  ["?", "this list", () => $("d-help").showModal()], ["Esc", "leave a field, close a dialog", null],
];
function side(word) {
  setField("side", word);
  field.quantity.focus();
}
$("shortcuts").append(...SHORTCUTS.map(([key, what]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, what))),
  el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, "↑ ↓"), " in a number"), el("td", {}, "one tick or lot; with Shift ten")));
$("help").addEventListener("click", () => $("d-help").showModal());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inField = event.target.matches("input:not([type=radio]):not([type=checkbox]), select");
  if (event.key === "Escape" && inField) return event.target.blur();
  if (inField) return;
  const interval = Object.keys(INTERVALS)[Number(event.key) - 1];
  if (interval) return setInterval_(interval);
  const found = SHORTCUTS.find(([key]) => key.toLowerCase() === event.key.toLowerCase());
  if (!found?.[2]) return;
  event.preventDefault();
  found[2]();
});

// --- the beginning ----------------------------------------------------------------------------------------

const remembered = JSON.parse(sessionStorage.getItem(VIEW_KEY) ?? "{}");
function remember() {
  sessionStorage.setItem(VIEW_KEY, JSON.stringify({ symbol: state.symbol, interval: state.interval, tab: state.tab }));
}

if (remembered.interval in INTERVALS) state.interval = remembered.interval;
if (TABS.includes(remembered.tab)) chooseTab(remembered.tab);
for (const input of $("intervals").querySelectorAll("input")) input.checked = input.value === state.interval;
setTheme(chosenTheme());
new ResizeObserver(() => show(showLadder)).observe($("ladder"));
show(showAccount, showOwn, showLadder, showTrades, ticketChanged, showConnection, showQuote);
const kept = sessionStorage.getItem(TOKEN_KEY);
await loadSymbols();
if (!state.symbols.size) streams.connect();
if (kept) signIn(kept, true);
poll();
