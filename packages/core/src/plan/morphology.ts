/** 3 x 3 mean of an RGB picture, edges repeated. */
export function blur(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const row = width * 3;
  const sums = new Uint16Array(rgb.length);
  for (let y = 0; y < height; y++) {
    const up = Math.max(0, y - 1) * row;
    const here = y * row;
    const down = Math.min(height - 1, y + 1) * row;
    for (let i = 0; i < row; i++) sums[here + i] = rgb[up + i] + rgb[here + i] + rgb[down + i];
  }
  const out = new Uint8Array(rgb.length);
  for (let y = 0; y < height; y++) {
    const here = y * row;
    for (let i = 0; i < row; i++) {
      const left = i < 3 ? i : i - 3;
      const right = i >= row - 3 ? i : i + 3;
      out[here + i] = (sums[here + left] + sums[here + i] + sums[here + right] + 4) / 9;
    }
  }
  return out;
}

/** Morphological closing of a 0/1 mask with an octagon of that radius; outside the picture counts as neither. */
export function close(mask: Uint8Array, width: number, height: number, radius: number): Uint8Array<ArrayBuffer> {
  const reach = STEP * radius;
  const out = new Uint8Array(mask.length);
  const toTissue = distances(mask, width, height, 1);
  for (let i = 0; i < out.length; i++) out[i] = toTissue[i] <= reach ? 1 : 0;
  const toGlass = distances(out, width, height, 0);
  for (let i = 0; i < out.length; i++) out[i] = toGlass[i] > reach ? 1 : 0;
  return out;
}

const STEP = 3;
const DIAGONAL = 4;

/** Chamfer distance 3-4 (Borgefors 1986), a third of a pixel a unit, of each pixel to the nearest one that equals `value`. */
function distances(mask: Uint8Array, width: number, height: number, value: 0 | 1): Uint16Array {
  const row = width + 2;
  const far = 0x7fff;
  const padded = new Uint16Array(row * (height + 2)).fill(far);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) if (mask[y * width + x] === value) padded[(y + 1) * row + x + 1] = 0;
  }
  const sweep = (from: number, to: number, direction: 1 | -1) => {
    const side = direction;
    const line = direction * row;
    for (let i = from; i !== to; i += direction) {
      const straight = Math.min(padded[i - side], padded[i - line]) + STEP;
      const diagonal = Math.min(padded[i - line - side], padded[i - line + side]) + DIAGONAL;
      padded[i] = Math.min(padded[i], straight, diagonal);
    }
  };
  for (let y = 1; y <= height; y++) sweep(y * row + 1, y * row + width + 1, 1);
  for (let y = height; y >= 1; y--) sweep(y * row + width, y * row, -1);
  const out = new Uint16Array(width * height);
  for (let y = 0; y < height; y++) out.set(padded.subarray((y + 1) * row + 1, (y + 1) * row + 1 + width), y * width);
  return out;
}

/** Rounds a 0/1 mask: a pixel is 1 where more than half of its box, side 2 * radius + 1, is. The picture's edge repeats. */
export function smooth(mask: Uint8Array, width: number, height: number, radius: number): Uint8Array<ArrayBuffer> {
  const sum = (source: Uint8Array, lines: number, length: number, lineStep: number, step: number) => {
    const out = new Uint8Array(source.length);
    for (let line = 0; line < lines; line++) {
      const at = (i: number) => source[line * lineStep + Math.min(length - 1, Math.max(0, i)) * step];
      let count = 0;
      for (let i = -radius; i < radius; i++) count += at(i);
      for (let i = 0; i < length; i++) {
        count += at(i + radius);
        out[line * lineStep + i * step] = count;
        count -= at(i - radius);
      }
    }
    return out;
  };
  const half = (2 * radius + 1) ** 2 / 2;
  const counts = sum(sum(mask, height, width, width, 1), width, height, 1, width);
  return counts.map((count) => (count > half ? 1 : 0));
}

/** Fills holes of 0 (4-connected, not touching the picture's edge) smaller than `least` pixels. */
export function fillHoles(mask: Uint8Array<ArrayBuffer>, width: number, height: number, least: number) {
  const holes = components(mask, width, height, 0);
  return mask.map((value, i) => {
    const label = holes.labels[i];
    return value === 1 || (!holes.onEdge[label] && holes.areas[label] < least) ? 1 : 0;
  });
}

/**
 * Connected components of the pixels that equal `value`: 8-connected for 1, 4-connected for 0, so that a border separates exactly
 * one of each. Labels start at 1; 0 elsewhere.
 */
export function components(mask: Uint8Array, width: number, height: number, value: 0 | 1) {
  const labels = new Int32Array(mask.length);
  const areas: number[] = [0];
  const onEdge: boolean[] = [false];
  const stack: number[] = [];
  const reach = value === 1 ? 1 : 0;
  for (let seed = 0; seed < mask.length; seed++) {
    if (mask[seed] !== value || labels[seed] !== 0) continue;
    const label = areas.length;
    let area = 0;
    let edge = false;
    stack.push(seed);
    // A run of the row at a time: what lies above and below is pushed once a run, not once a pixel.
    while (stack.length > 0) {
      const at = stack.pop() as number;
      if (labels[at] !== 0) continue;
      const y = Math.floor(at / width);
      const start = y * width;
      let left = at;
      let right = at;
      while (left > start && mask[left - 1] === value) left--;
      while (right < start + width - 1 && mask[right + 1] === value) right++;
      labels.fill(label, left, right + 1);
      area += right - left + 1;
      edge ||= y === 0 || y === height - 1 || left === start || right === start + width - 1;
      const from = Math.max(start, left - reach) - start;
      const to = Math.min(start + width - 1, right + reach) - start;
      for (const next of [start - width, start + width]) {
        if (next < 0 || next >= mask.length) continue;
        for (let i = next + from; i <= next + to; i++) {
          const opensRun = mask[i] === value && labels[i] === 0 && (i === next + from || mask[i - 1] !== value);
          if (opensRun) stack.push(i);
        }
      }
    }
    areas.push(area);
    onEdge.push(edge);
  }
  return { labels, areas, onEdge };
}
