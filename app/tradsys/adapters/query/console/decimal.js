// Decimals as the venue writes them: exact text. Inside they are BigInt units of 1e-8; nothing is ever a float
// on its way to an order. Only what is drawn becomes a Number.

export const ONE = 100_000_000n;

/** Units of 1e-8 of a plain decimal, or null if the text is none (or is more precise than that). */
export function units(text) {
  const found = /^(-?)(\d{1,18})(?:\.(\d{1,8})0*)?$/.exec(text ?? "");
  if (!found) return null;
  const value = BigInt(found[2]) * ONE + BigInt((found[3] ?? "").padEnd(8, "0"));
  return found[1] ? -value : value;
}

/** The shortest exact text of units of 1e-8. */
export function text(value) {
  if (value < 0n) return "-" + text(-value);
  const whole = value / ONE, part = value % ONE;
  return part ? `${whole}.${part.toString().padStart(8, "0").replace(/0+$/, "")}` : `${whole}`;
}

/** Digits after the point of a step like "0.01". */
export const places = (step) => (step?.split(".")[1] ?? "").length;

/** For reading: thousands apart, and at least so many digits after the point. */
export function shown(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  const plain = typeof value === "bigint" ? text(value) : value;
  const [whole, part = ""] = plain.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const padded = part.padEnd(digits, "0");
  return padded ? `${grouped}.${padded}` : grouped;
}

/** price × quantity, rounded up to 1e-8, as the venue counts a notional. */
export const times = (a, b) => (a * b + ONE - 1n) / ONE;

/** Local time of day of a time in unix nanoseconds; with the date if that is not today. */
export function clock(ns, now = new Date()) {
  const at = new Date(Number(BigInt(ns) / 1_000_000n));
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.getFullYear()}-${String(at.getMonth() + 1).padStart(2, "0")}-${String(at.getDate()).padStart(2, "0")} ${time}`;
}
