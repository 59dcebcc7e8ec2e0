// A question as the server gets it: its prompt, its length, and whether an answer fits after it.

import * as server from "./server.js";
import { count } from "./words.js";

// The question is last: models answer best what they have just read.
export function messages(documents, question) {
  return [{ role: "user", content: documents ? `${documents}\n\n${question}` : question }];
}

// The tokens of a prompt; undefined if the server does not count them.
export async function length(model, prompt, options) {
  try {
    const response = await server.post("tokenize", { model, messages: prompt }, options);
    return (await response.json()).count;
  } catch (error) {
    if (error.status === 404) return undefined;
    throw error;
  }
}

// A sentence if an answer of `longest` tokens does not fit after the prompt, else undefined.
export function tooLong(tokens, longest, limit) {
  const room = limit - tokens;
  if (!(longest > room)) return undefined;
  const mend = room > 0 ? `, or for an answer of ${count(room)} tokens at most` : "";
  return (
    `The documents and the question have ${count(tokens)} tokens, which leaves no room for an ` +
    `answer of ${count(longest)} in the ${count(limit)} that the server takes: ask about a part ` +
    `of them${mend}.`
  );
}

export function body(model, prompt, longest, temperature) {
  const asked = {
    model,
    messages: prompt,
    max_tokens: longest,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  return Number.isNaN(temperature) ? asked : { ...asked, temperature };
}
