// Requests to the server that the page came from, and its refusals as sentences.

const KEY = "longrope.key";
const BUSY = [429, 503];
const RETRIES = 5;

export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// A successful response. Addresses are relative to the page, which may be below a proxy's path.
// busy(sentence, seconds, retry): called before each wait for a server that is full.
export async function ask(path, { busy, signal, ...options } = {}) {
  for (let retry = 1; ; retry++) {
    const response = await sent(path, { ...options, signal });
    if (response.ok) return response;
    const refusal = await refusalOf(response);
    const wait = Number.parseInt(response.headers.get("Retry-After"), 10);
    if (!busy || !BUSY.includes(response.status) || !(wait >= 0) || retry > RETRIES) throw refusal;
    busy(refusal.message, wait, `${retry} of ${RETRIES}`);
    await pause(1000 * wait, signal);
  }
}

export async function json(path, options) {
  return (await ask(path, options)).json();
}

export async function post(path, body, options) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

async function sent(path, options) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  try {
    return await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer: it may have stopped, or the network is gone.");
  }
}

async function refusalOf(response) {
  let sentence = `The server answered with status ${response.status}.`;
  try {
    const { error } = await response.json();
    sentence = error.message ?? (typeof error === "string" ? `${error}.` : sentence);
  } catch {
    // Something between the page and the server has answered.
  }
  return new Refusal(response.status, sentence);
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
