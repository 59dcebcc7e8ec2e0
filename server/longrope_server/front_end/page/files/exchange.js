// One question and its answer, from the wait for a place to the numbers at the end.

import { Ruler } from "./ruler.js";
import * as server from "./server.js";
import { events } from "./stream.js";
import { count, element, seconds } from "./words.js";

const GIVEN_UP = ["abort", "error"]; // vLLM's finish reasons for answers that it did not complete

export class Exchange {
  // limits: the max_length of each factor set.
  constructor(question, limits) {
    this.limits = limits;
    [this.prompt, this.computed, this.answered] = [0, 0, 0]; // tokens
    this.stage = element("span", { role: "status" });
    this.detail = element("span", { class: "hint" }); // not read aloud every second
    this.progress = element("progress", { "aria-label": "Prompt", max: "1" });
    this.answer = element("div", { class: "answer", "aria-live": "polite", "aria-busy": "true" });
    this.facts = element("dl", { class: "facts" });
    this.error = element("p", { class: "error", role: "alert" });
    this.ruler = limits.length ? new Ruler(limits) : undefined;
    const asked = element("h3", {}, question);
    this.element = element("article", { class: "exchange" }, asked);
    if (this.ruler) this.element.append(this.ruler.element);
    const told = element("p", { class: "stage" }, this.stage, " ", this.detail);
    this.element.append(told, this.progress, this.answer, this.error, this.facts);
    this.show();
  }

  // Shows and returns the tokens of the prompt, which count({busy, signal}) asks for.
  async measure(count, signal) {
    this.say("Counting the tokens");
    const tokens = await count({ busy: this.busy, signal });
    this.prompt = tokens ?? 0;
    this.show();
    return tokens;
  }

  // Asks, and resolves when the answer has ended in any way.
  async run(body, signal) {
    this.sent = performance.now();
    this.say("Waiting for a place");
    try {
      const response = await server.post("v1/chat/completions", body, { busy: this.busy, signal });
      const started = Number.parseInt(response.headers.get("x-longrope-factor-set"), 10);
      if (started) this.factorSet = { started, finished: started, promoted: false };
      this.say("Reading the prompt");
      for await (const { comment, data } of events(response)) {
        if (comment !== undefined) this.prefill(comment);
        else if (data === "[DONE]") break;
        else this.chunk(JSON.parse(data));
      }
      if (!this.finish || GIVEN_UP.includes(this.finish)) {
        throw new server.Refusal(0, "The server ended the answer before it was complete.");
      }
      this.end(this.finish === "length" ? "Cut at the longest answer" : "Complete");
    } catch (error) {
      if (error.name === "AbortError") return this.end("Cancelled");
      this.end("Failed");
      const refused = error instanceof server.Refusal;
      this.error.textContent = refused ? error.message : "The connection broke during the answer.";
    }
  }

  busy = (sentence, wait, retry) => {
    this.say("Waiting", `${sentence} Asking again in ${seconds(wait)} (${retry}).`);
  };

  prefill(comment) {
    const [, computed, total] = /^prefill (\d+)\/(\d+)$/.exec(comment) ?? [];
    if (!total || this.first) return;
    const now = performance.now();
    this.from ??= { now, computed: Number(computed) };
    [this.computed, this.prompt] = [Number(computed), Number(total)];
    const rate = (1000 * (this.computed - this.from.computed)) / (now - this.from.now);
    let told = `${count(this.computed)} of ${count(this.prompt)} tokens`;
    if (rate > 0) {
      const left = Math.ceil((this.prompt - this.computed) / rate);
      told += `, ${count(rate)} a second, about ${seconds(left)} left`;
    }
    this.say("Reading the prompt", told);
    this.show();
  }

  chunk({ choices, usage, error }) {
    if (error) throw new server.Refusal(0, error.message);
    const choice = choices?.[0];
    const text = choice?.delta?.content;
    if (text) {
      this.first ??= performance.now();
      this.answer.append(text);
    }
    this.finish = choice?.finish_reason ?? this.finish;
    if (usage) this.note(usage);
    if (this.first) this.say(this.outgrown ? this.promoting() : "Answering");
    this.show();
  }

  note({ prompt_tokens, completion_tokens, factor_set }) {
    [this.prompt, this.answered] = [prompt_tokens, completion_tokens];
    if (this.answered) this.computed = this.prompt;
    this.factorSet = factor_set ?? this.factorSet;
  }

  // Whether the next token needs another set: exactly max_length tokens still fit.
  get outgrown() {
    const total = this.prompt + this.answered - 1;
    return !this.finish && total >= this.factorSet?.finished && total < this.limits.at(-1);
  }

  promoting() {
    const next = this.limits.find((limit) => limit > this.factorSet.finished);
    return `The text outgrows its factor set and is computed again under that of ${count(next)}`;
  }

  say(stage, detail = "") {
    if (this.stage.textContent !== stage) this.stage.textContent = stage;
    this.detail.textContent = detail;
  }

  end(stage) {
    this.ended = performance.now();
    this.say(stage);
    this.progress.remove();
    this.answer.setAttribute("aria-busy", "false");
    this.show();
  }

  show() {
    this.progress.hidden = this.computed === 0 || this.first !== undefined;
    if (this.prompt) this.progress.value = this.computed / this.prompt;
    const { prompt, computed, answered } = this;
    this.ruler?.show({ prompt, computed, answer: answered, set: this.factorSet?.finished });
    this.facts.replaceChildren();
    if (this.factorSet) this.fact("Factor set", this.servedBy());
    if (this.answered) {
      this.fact("Prompt", `${count(this.prompt)} tokens`);
      this.fact("Answer", `${count(this.answered)} tokens`);
    }
    if (this.first) this.fact("First token after", seconds((this.first - this.sent) / 1000));
    if (!this.ended) return;
    this.fact("In all", seconds((this.ended - this.sent) / 1000));
    const rate = (1000 * (this.answered - 1)) / (this.ended - this.first);
    if (this.answered > 1) this.fact("Tokens a second", rate.toFixed(1));
  }

  servedBy() {
    const { started, finished, promoted } = this.factorSet;
    const sets = [started, finished].map((limit) => {
      const index = Math.max(this.limits.indexOf(limit), 0);
      return element("span", { class: `chip set-${index % 6}` }, count(limit));
    });
    return promoted ? [sets[0], " promoted to ", sets[1]] : [sets[0]];
  }

  fact(name, value) {
    this.facts.append(element("div", {}, element("dt", {}, name), element("dd", {}, ...[value].flat())));
  }
}
