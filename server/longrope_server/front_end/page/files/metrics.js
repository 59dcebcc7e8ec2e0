// Reads Prometheus' text format, as far as the page needs it.

const SAMPLE = /^([\w:]+)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export class Metrics {
  constructor(text) {
    this.samples = new Map();
    for (const line of text.split("\n")) {
      const [, name, labels = "", value] = SAMPLE.exec(line) ?? [];
      if (!name) continue;
      const sample = { value: Number(value) };
      for (const [, label, content] of labels.matchAll(LABEL)) sample[label] = content;
      if (!this.samples.has(name)) this.samples.set(name, []);
      this.samples.get(name).push(sample);
    }
  }

  // Every sample of a metric: {value, and its labels}.
  of(name) {
    return this.samples.get(name) ?? [];
  }

  // The sum over the samples whose labels are `labels`.
  sum(name, labels = {}) {
    const wanted = Object.entries(labels);
    return this.of(name)
      .filter((sample) => wanted.every(([label, value]) => sample[label] === value))
      .reduce((sum, { value }) => sum + value, 0);
  }
}
