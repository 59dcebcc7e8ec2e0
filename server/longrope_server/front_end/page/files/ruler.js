// A ruler of the factor sets: how long a prompt is, how far it is computed, where its answer is. All
// of it has the colour of the one set that serves it. Every set has the same width, so that the
// short ones can be read beside the long ones.

import { count, element } from "./words.js";

export class Ruler {
  // limits: the max_length of each set, ascending.
  constructor(limits) {
    this.limits = limits;
    this.element = element("div", { class: "ruler", role: "img" });
    this.parts = limits.map((limit) => {
      const prompt = element("i", { class: "prompt" });
      const computed = element("i", { class: "computed" });
      const answer = element("i", { class: "answered" });
      const bar = element("div", { class: "bar" }, prompt, computed, answer);
      const part = element("div", { class: "part" }, bar, element("span", {}, count(limit)));
      this.element.append(part);
      return { part, prompt, computed, answer };
    });
  }

  // computed: tokens of the prompt in the KV cache. answer: tokens after the prompt. set: the
  // max_length of the set that serves them; by default, of the one that covers the prompt.
  show({ prompt, computed = 0, answer = 0, set }) {
    const covering = this.limits.findIndex((limit) => prompt <= limit);
    const serving = set === undefined ? covering : this.limits.indexOf(set);
    this.element.className = `ruler set-${serving < 0 ? "none" : serving % 6}`;
    this.parts.forEach((part, index) => {
      const [low, high] = [this.limits[index - 1] ?? 0, this.limits[index]];
      const share = (tokens) => Math.min(Math.max((tokens - low) / (high - low), 0), 1);
      part.prompt.style.width = `${100 * share(prompt)}%`;
      part.computed.style.width = `${100 * share(computed)}%`;
      const [start, end] = [share(prompt), share(prompt + answer)];
      part.answer.style.left = `${100 * start}%`;
      part.answer.style.width = `${100 * (end - start)}%`;
      part.part.classList.toggle("serving", prompt > 0 && index === serving);
    });
    const parts = [`${count(prompt)} prompt tokens`];
    if (computed) parts.push(`${count(computed)} of them computed`);
    if (answer) parts.push(`${count(answer)} answer tokens`);
    const ends = this.limits.map(count).join(", ");
    this.element.setAttribute("aria-label", `${parts.join(", ")}, on factor sets that end at ${ends}`);
  }
}
