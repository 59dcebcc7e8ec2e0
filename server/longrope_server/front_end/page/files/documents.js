// The documents that are asked about: chosen or dropped files, which the server turns into text.

import * as server from "./server.js";
import { element, seconds, short } from "./words.js";

export class Documents {
  // changed(): called when a document has become text, or was removed.
  constructor({ drop, input, list, changed }) {
    this.list = list;
    this.changed = changed;
    this.input = input;
    this.all = [];
    this.reading = Promise.resolve(); // they are read in turn, as the server reads PDFs
    input.addEventListener("change", () => {
      this.add(input.files);
      input.value = ""; // the same file may be chosen again
    });
    // Anywhere on the page: a file that missed a smaller field would replace the page.
    window.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return; // text may be dropped into the question
      event.preventDefault();
      drop.classList.add("over");
    });
    window.addEventListener("dragleave", () => drop.classList.remove("over"));
    window.addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      drop.classList.remove("over");
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    for (const file of files) {
      const document = { file, name: file.name, stopping: new AbortController() };
      this.all.push(document);
      this.list.append(this.row(document));
      this.start(document);
    }
  }

  // Reads those again that were refused, for example because there was no key.
  again() {
    this.all.filter(({ refused }) => refused).forEach((document) => this.start(document));
  }

  start(document) {
    document.refused = false;
    document.row.classList.remove("refused");
    document.state.textContent = "waiting";
    this.reading = document.read = this.reading.then(() => this.read(document));
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

  // The first document that could not be read; undefined if there is none.
  get refused() {
    return this.all.find(({ refused }) => refused);
  }

  row(document) {
    const { name, stopping } = document;
    const remove = element("button", { type: "button", "aria-label": `Remove ${name}` }, "×");
    document.state = element("span", { class: "about" });
    document.row = element("li", {}, element("span", { class: "name" }, name), document.state, remove);
    remove.addEventListener("click", () => {
      stopping.abort();
      this.all = this.all.filter((other) => other !== document);
      document.row.remove();
      this.input.focus();
      this.changed();
    });
    return document.row;
  }

  async read(document) {
    const { file, state, stopping } = document;
    if (stopping.signal.aborted) return;
    state.textContent = "reading";
    try {
      await readable(file);
      const headers = { "Content-Type": file.type || "application/octet-stream" };
      const busy = (sentence, wait) => {
        state.textContent = `${sentence} Asking again in ${seconds(wait)}.`;
      };
      const options = { method: "POST", headers, body: file, signal: stopping.signal, busy };
      document.text = await (await server.ask("v1/text", options)).text();
      state.textContent = `${short(document.text.length)} characters`;
    } catch (error) {
      if (error.name === "AbortError") return;
      document.refused = true;
      document.row.classList.add("refused");
      state.textContent = error.message;
    }
    this.changed();
  }
}

function holdsFiles(event) {
  return event.dataTransfer.types.includes("Files");
}

// A folder, or a file that is gone, would look like a server that does not answer.
async function readable(file) {
  const reader = file.stream().getReader();
  try {
    await reader.read();
  } catch {
    throw new Error("The browser cannot read it: choose a file, not a folder, that is still there.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
