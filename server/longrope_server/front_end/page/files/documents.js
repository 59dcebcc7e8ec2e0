// The documents that are asked about: chosen or dropped files, which the server turns into text.

import * as server from "./server.js";
import { element, short } from "./words.js";

export class Documents {
  // changed(): called when a document has become text, or was removed.
  constructor({ drop, input, list, changed }) {
    this.list = list;
    this.changed = changed;
    this.input = input;
    this.all = [];
    input.addEventListener("change", () => {
      this.add(input.files);
      input.value = ""; // the same file may be chosen again
    });
    // Anywhere on the page: a file that missed a smaller field would replace the page.
    window.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    window.addEventListener("dragleave", () => drop.classList.remove("over"));
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    for (const file of files) {
      const document = { name: file.name, text: undefined };
      this.all.push(document);
      document.read = this.read(file, document);
    }
  }

  // Resolves when no document is being read any more.
  async allRead() {
    await Promise.all(this.all.map((document) => document.read));
  }

  // The texts in the order in which they were added; each begins with its name if there are several.
  get text() {
    const read = this.all.filter(({ text }) => text !== undefined);
    if (read.length < 2) return read[0]?.text ?? "";
    return read.map(({ name, text }) => `${name}:\n\n${text}`).join("\n\n");
  }

  async read(file, document) {
    const state = element("span", { class: "about" }, "reading");
    const remove = element("button", { type: "button", "aria-label": `Remove ${file.name}` }, "×");
    const row = element("li", {}, element("span", { class: "name" }, file.name), state, remove);
    const stopping = new AbortController();
    this.list.append(row);
    remove.addEventListener("click", () => {
      stopping.abort();
      this.all = this.all.filter((other) => other !== document);
      row.remove();
      this.input.focus();
      this.changed();
    });
    try {
      const headers = { "Content-Type": file.type || "application/octet-stream" };
      const options = { method: "POST", headers, body: file, signal: stopping.signal };
      document.text = await (await server.ask("v1/text", options)).text();
      state.textContent = `${short(document.text.length)} characters`;
    } catch (error) {
      if (error.name === "AbortError") return;
      row.classList.add("refused");
      state.textContent = error.message;
    }
    this.changed();
  }
}
