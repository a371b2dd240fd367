// A line of the size of a word: where a number comes from. People who listen hear the number alone.

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 100;
const HEIGHT = 28;

/** `element`, and `draw(values)`; what is null is left out. */
export function sparkline() {
  const svg = document.createElementNS(SPACE, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "sparkline");
  svg.setAttribute("aria-hidden", "true");
  const area = document.createElementNS(SPACE, "path");
  area.setAttribute("class", "sparkline-area");
  const line = document.createElementNS(SPACE, "path");
  line.setAttribute("class", "sparkline-line");
  svg.append(area, line);
  return {
    element: svg,
    draw(values) {
      const known = values.filter((value) => Number.isFinite(value));
      if (known.length < 2) return;
      const low = Math.min(...known);
      const span = Math.max(...known) - low || 1;
      const step = WIDTH / (values.length - 1);
      const places = values
        .map((value, place) => [place * step, HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 5), Number.isFinite(value) && value !== null])
        .filter(([, , isThere]) => isThere);
      const path = places.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
      line.setAttribute("d", path);
      area.setAttribute("d", `${path}L${places.at(-1)[0].toFixed(1)} ${HEIGHT}L${places[0][0].toFixed(1)} ${HEIGHT}Z`);
    },
  };
}
