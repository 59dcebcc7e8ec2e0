// Numbers as people read them, and elements made of text.

const whole = new Intl.NumberFormat("en");

export function count(number) {
  return whole.format(Math.round(number));
}

// 12139 -> "12.1k"; for places where there is little room.
export function short(number) {
  if (number < 10_000) return count(number);
  if (number < 1_000_000) return `${(number / 1000).toFixed(number < 100_000 ? 1 : 0)}k`;
  return `${(number / 1_000_000).toFixed(1)}M`;
}

export function seconds(number) {
  if (number < 59.5) return `${number.toFixed(Number.isInteger(number) || number >= 10 ? 0 : 2)} s`;
  const whole = Math.round(number);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

// An element with attributes and children. Strings become text, never markup.
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}
