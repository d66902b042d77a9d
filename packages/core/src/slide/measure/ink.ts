/** Black is no stain, nor is dark grey: carbon, rims of bubbles, black ink, unscanned black. */
const BLACK = 40;
const DARK_GREY = { value: 120, chroma: 18 } as const;

export function isBlack(r: number, g: number, b: number): boolean {
  const max = Math.max(r, g, b);
  return max < BLACK || (max < DARK_GREY.value && max - Math.min(r, g, b) < DARK_GREY.chroma);
}

/**
 * Vivid green; blue with less red than green; red with hardly any green and blue. Trichrome, Luxol fast blue and pools of blood have
 * such colours too, which is why a pixel alone decides nothing.
 */
export function isInk(r: number, g: number, b: number): boolean {
  if (g >= r && g >= b) return r < 0.6 * g && b < 0.95 * g;
  if (b >= r) return r < 0.55 * b && g > r;
  return r > 150 && g < 0.3 * r && b < 0.35 * r;
}
