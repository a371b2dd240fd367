// The signs of marked buckets: each with a shape of its own, so that colour is never all that tells them apart.

const SHAPES = {
  open: ["circle", { cx: 6, cy: 6, r: 4, class: "sign-hollow", "stroke-dasharray": "3 2" }],
  settling: ["path", { d: "M6 1 11 6 6 11 1 6Z", class: "sign-hollow" }],
  restated: ["path", { d: "M6 1 11.2 10.5H.8Z", class: "sign-solid" }],
  late: ["path", { d: "M2 2h8v8H2Z", class: "sign-hollow" }],
  incomplete: ["path", { d: "M2 2 10 10M10 2 2 10", class: "sign-hollow" }],
  predecessor: ["path", { d: "M9 2 3 6l6 4", class: "sign-hollow" }],
};

/** An svg of 12 × 12. */
export function markSign(mark) {
  const [tag, attributes] = SHAPES[mark];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", `ex-sign sign-${mark}`);
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  svg.append(shape);
  return svg;
}
