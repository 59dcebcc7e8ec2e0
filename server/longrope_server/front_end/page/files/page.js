// The page: ties the form, the documents, the answers and the operator's side together.

import { Documents } from "./documents.js";
import { Exchange } from "./exchange.js";
import { Operator } from "./operator.js";
import * as questions from "./question.js";
import { Ruler } from "./ruler.js";
import * as server from "./server.js";
import { count, element } from "./words.js";

const byId = (id) => document.getElementById(id);
const [form, question, keyField, rulerBox] = ["form", "question", "key", "ruler"].map(byId);

const documents = new Documents({
  drop: byId("drop"),
  input: byId("files"),
  list: byId("documents"),
  changed: measure,
});
const operator = new Operator({
  state: byId("server-state"),
  charts: byId("charts"),
  sets: byId("sets"),
  classes: byId("classes"),
});
const served = { model: undefined, limit: undefined, sets: [] };
let asking; // the AbortController of the question that is being answered
let measuring;

// What is served, which a new key or a restart of the server may change.
async function learn() {
  try {
    const { data } = await server.json("v1/models");
    [served.model, served.limit] = [data[0].id, data[0].max_model_len];
    served.sets = (await factors()) ?? [];
    byId("model").textContent = `${served.model}, up to ${count(served.limit)} tokens`;
    refuse("");
  } catch (refusal) {
    served.model = undefined;
    refuse(refusal.message, refusal.status);
  }
  operator.start(served.sets);
}

async function factors() {
  try {
    return (await server.json("v1/factors")).sets;
  } catch (refusal) {
    if (refusal.status === 404) return undefined; // a model without sets
    throw refusal;
  }
}

// The max_length of the sets that requests can reach.
function limits() {
  const all = served.sets.map((set) => set.max_length);
  return all.filter((_, at) => at === 0 || all[at - 1] < served.limit);
}

function refuse(sentence, status) {
  byId("refusal").textContent = sentence;
  if (status !== 401) return;
  byId("settings").open = true;
  byId("refusal").append(" Give a key under Settings.");
}

// Shows the length of the prompt before anything is asked.
async function measure() {
  measuring?.abort();
  rulerBox.hidden = !documents.text;
  if (!served.model) return;
  refuse("");
  if (!documents.text) return;
  measuring = new AbortController();
  const prompt = questions.messages(documents.text, question.value);
  try {
    const tokens = await questions.length(served.model, prompt, { signal: measuring.signal });
    if (tokens === undefined) return;
    const ruler = new Ruler(served.sets.length ? limits() : [served.limit]);
    ruler.show({ prompt: tokens });
    const set = limits().find((limit) => tokens <= limit);
    const about = set ? `a prompt for the factor set of ${count(set)}` : `${count(served.limit)} fit`;
    const told = element("p", { class: "hint" }, `${count(tokens)} tokens: ${about}`);
    rulerBox.replaceChildren(ruler.element, told);
  } catch (refusal) {
    if (refusal.name !== "AbortError") refuse(refusal.message, refusal.status);
  }
}

async function ask() {
  if (asking) return;
  const [longest, temperature] = ["max-tokens", "temperature"].map(byId);
  if (!question.value.trim()) return mend(question, "Ask something: the question is empty.");
  if (!longest.checkValidity()) return mend(longest, "The longest answer should be a number of tokens.");
  if (!temperature.checkValidity()) return mend(temperature, "The temperature should be a number from 0.");
  asking = new AbortController();
  busy(true);
  try {
    await put(longest.valueAsNumber, temperature.valueAsNumber, asking.signal);
  } catch (refusal) {
    if (refusal.name !== "AbortError") refuse(refusal.message, refusal.status);
  }
  asking = undefined;
  busy(false);
}

// temperature: NaN for the server's own.
async function put(longest, temperature, signal) {
  const asked = question.value.trim();
  refuse("");
  const cancelled = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  await Promise.race([documents.allRead(), cancelled]);
  if (documents.refused) {
    const sentence = `${documents.refused.name} could not be read: remove it, or choose another.`;
    throw new server.Refusal(0, sentence);
  }
  await learn();
  if (!served.model) return;
  const prompt = questions.messages(documents.text, asked);
  const body = questions.body(served.model, prompt, longest, temperature);
  const exchange = new Exchange(asked, limits());
  byId("exchanges").prepend(exchange.element);
  try {
    const counted = (options) => questions.length(served.model, prompt, options);
    const tokens = await exchange.measure(counted, signal);
    const sentence = questions.tooLong(tokens, longest, served.limit);
    if (sentence) throw new server.Refusal(0, sentence);
  } catch (refusal) {
    exchange.element.remove(); // it was never asked
    throw refusal;
  }
  await exchange.run(body, signal);
}

function mend(field, sentence) {
  refuse(sentence);
  byId("settings").open ||= byId("settings").contains(field);
  field.focus();
}

function busy(is) {
  const [start, cancel] = [byId("ask"), byId("cancel")];
  const focused = document.activeElement === (is ? start : cancel);
  [start.hidden, cancel.hidden] = [is, !is];
  if (focused) (is ? cancel : start).focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
question.addEventListener("change", measure);
byId("cancel").addEventListener("click", () => asking?.abort());
keyField.value = server.key();
keyField.addEventListener("change", () => {
  const key = keyField.value.trim();
  if (!/^[!-~]*$/.test(key)) {
    refuse("The API key holds a space or a character outside ASCII, which no HTTP header can carry.");
    return;
  }
  server.setKey(key);
  learn().then(() => {
    documents.again();
    measure();
  });
});
learn();
