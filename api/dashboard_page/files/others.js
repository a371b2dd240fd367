// What is folded into one.

/** The value under which the API adds up all that stand behind the first ones. */
export const OTHER = "__other__";
