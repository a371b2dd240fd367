// Colours made of others.

/** A colour of the style sheet, `#rrggbb`, let through. */
export function faded(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((place) => Number.parseInt(colour.slice(place, place + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}
