// What the server says about itself, for its operator: sets, classes, queue, tokens, promotions.

import { Chart } from "./chart.js";
import { Metrics } from "./metrics.js";
import * as server from "./server.js";
import { count, element } from "./words.js";

const EVERY = 2000; // milliseconds
const SILENT = 10_000; // milliseconds after which the server counts as gone
const KEEP = 150; // values in a chart: five minutes, and at first one

export class Operator {
  // sets: those of /v1/factors; none for a model without sets.
  constructor({ state, charts, sets, classes }) {
    Object.assign(this, { state, chartBox: charts, setBox: sets, classBox: classes, sets: [] });
    document.addEventListener("visibilitychange", () => this.again());
  }

  // Draws from now on, with the sets that /v1/factors lists; in new charts if these are others.
  start(sets) {
    if (JSON.stringify(sets) !== JSON.stringify(this.sets)) {
      [this.charts, this.before] = [undefined, undefined];
    }
    this.sets = sets;
    this.again();
  }

  async again() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const locked = await this.look();
    clearTimeout(this.timer);
    if (!locked) this.timer = setTimeout(() => this.again(), EVERY);
  }

  // Whether the server asks for another key: it will again, until there is one.
  async look() {
    try {
      const signal = AbortSignal.timeout(SILENT);
      const metrics = new Metrics(await (await server.ask("metrics", { signal })).text());
      const ready = await server.ask("ready", { signal }).then(() => "Ready", (refusal) => refusal.message);
      this.say(ready, ready === "Ready");
      this.draw(metrics);
    } catch (refusal) {
      this.say(refusal.message, false);
      return refusal.status === 401;
    }
    return false;
  }

  say(sentence, good) {
    this.state.classList.toggle("good", good);
    if (this.state.textContent !== sentence) this.state.textContent = sentence;
  }

  draw(metrics) {
    const classes = metrics.of("longrope_tokens_in_flight").map((sample) => sample.length_class);
    classes.sort((one, other) => Number.parseInt(one, 10) - Number.parseInt(other, 10));
    this.charts ??= this.newCharts(classes);
    const { tokens, requests, answers, cache } = this.charts;
    const by = (name) => classes.map((length_class) => metrics.sum(name, { length_class }));
    tokens.add(by("longrope_tokens_in_flight"));
    requests.add([
      metrics.sum("longrope_requests_in_flight"),
      metrics.sum("longrope_requests_queued"),
    ]);
    answers.add(this.rates(metrics));
    cache.add([mean(metrics.of("vllm:kv_cache_usage_perc"))]);
    this.setBox.replaceChildren(this.setTable(metrics), this.promotions(metrics));
    this.classBox.replaceChildren(classTable(metrics, classes));
  }

  newCharts(classes) {
    const colours = (names) => names.map((_, index) => `set-${index % 6}`);
    const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
    const charts = {
      tokens: new Chart("Tokens in flight", colours(classes), { keep: KEEP }),
      requests: new Chart("Requests under way", ["plain", "queued"], { keep: KEEP }),
      answers: new Chart("Answer tokens a second", colours(this.limits), { keep: KEEP }),
      cache: new Chart("KV cache in use", ["plain"], { keep: KEEP, show: percent, top: 1 }),
    };
    this.chartBox.replaceChildren(...Object.values(charts).map((chart) => chart.element));
    return charts;
  }

  get limits() {
    return this.sets.length ? this.sets.map((set) => String(set.max_length)) : ["none"];
  }

  // Generated tokens a second by set, since the last look.
  rates(metrics) {
    const now = performance.now();
    const name = "longrope_generated_tokens_total";
    const totals = this.limits.map((factor_set) => metrics.sum(name, { factor_set }));
    const before = this.before ?? { now: now - EVERY, totals };
    this.before = { now, totals };
    const rate = (total, at) => (1000 * (total - (before.totals[at] ?? 0))) / (now - before.now);
    return totals.map((total, at) => Math.max(rate(total, at), 0));
  }

  setTable(metrics) {
    const rows = this.limits.map((factor_set, index) => {
      const set = this.sets[index];
      const how = set ? [set.provenance.method, ...(set.adapter ? ["adapter"] : [])].join(", ") : "";
      const sum = (name) => metrics.sum(`longrope_${name}_total`, { factor_set });
      return [
        named(set ? `up to ${count(set.max_length)}` : "none", index, how),
        ...["requests", "prompt_tokens", "generated_tokens"].map((name) => count(sum(name))),
      ];
    });
    return table("Factor sets", ["Set", "Requests", "Prompt", "Answer"], rows);
  }

  promotions(metrics) {
    const promoted = metrics.of("longrope_promotions_total").filter(({ value }) => value > 0);
    const told = promoted.map(
      ({ from, to, value }) => `${count(value)} from ${count(from)} to ${count(to)}`,
    );
    return element("p", { class: "promotions" }, `Promotions: ${told.join("; ") || "none"}`);
  }
}

function classTable(metrics, classes) {
  const rows = classes.map((length_class, index) => {
    const [low, high] = length_class.split("-").map(Number);
    const sum = (name) => metrics.sum(`longrope_${name}`, { length_class });
    return [
      named(`${count(low)}–${count(high)}`, index),
      ...["requests_in_flight", "requests_queued", "tokens_in_flight"].map((name) => count(sum(name))),
    ];
  });
  return table("Length classes", ["Prompt tokens", "In flight", "Queued", "Tokens"], rows);
}

function named(text, index, about = "") {
  const swatch = element("i", { class: `swatch set-${index % 6}` });
  const cell = element("span", {}, swatch, text);
  if (about) cell.append(element("small", {}, about));
  return cell;
}

function table(caption, head, rows) {
  const made = element("table", {}, element("caption", {}, caption), element("thead"), element("tbody"));
  made.tHead.append(element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name))));
  for (const [first, ...others] of rows) {
    const cells = others.map((value) => element("td", {}, value));
    made.tBodies[0].append(element("tr", {}, element("th", { scope: "row" }, first), ...cells));
  }
  return made;
}

function mean(samples) {
  return samples.reduce((sum, { value }) => sum + value, 0) / (samples.length || 1);
}
