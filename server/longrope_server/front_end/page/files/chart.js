// A small chart of the last minutes: areas that are stacked on one another.

import { drawn, element, short } from "./words.js";

const [WIDTH, HEIGHT] = [240, 56];

export class Chart {
  // classes: the CSS class of each area, from the bottom. keep: the number of values.
  constructor(title, classes, { keep, show = short, top = 0 }) {
    Object.assign(this, { keep, show, top, series: classes.map(() => []) });
    this.now = element("b", {}, "–");
    this.peak = element("span", { class: "peak" });
    this.areas = classes.map((name) => drawn("path", { class: `area ${name}` }));
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    this.element = element(
      "figure",
      {},
      element("figcaption", {}, title, " ", this.now),
      drawn("svg", box, ...this.areas),
      this.peak,
    );
  }

  // values: one for each area.
  add(values) {
    values.forEach((value, index) => {
      this.series[index].push(value);
      if (this.series[index].length > this.keep) this.series[index].shift();
    });
    const sums = this.series[0].map((_, at) => this.series.reduce((sum, each) => sum + each[at], 0));
    const highest = Math.max(...sums);
    this.now.textContent = this.show(sums.at(-1));
    this.peak.textContent = highest > 0 ? `at most ${this.show(highest)}` : "";
    let below = sums.map(() => 0);
    this.series.forEach((values, index) => {
      const above = below.map((value, at) => value + values[at]);
      this.areas[index].setAttribute("d", this.path(below, above, Math.max(highest, this.top) || 1));
      below = above;
    });
  }

  path(below, above, top) {
    const shown = Math.max(above.length, this.keep / 5);
    const x = (at) => (WIDTH * (shown - above.length + at)) / (shown - 1);
    const y = (value) => HEIGHT - 2 - ((HEIGHT - 6) * value) / top;
    const points = above.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const back = below.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).reverse();
    return `M${[...points, ...back].join("L")}Z`;
  }
}
