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

/** Morphological closing of a 0/1 mask with a square of side 2 * radius + 1; outside the picture counts as neither. */
export function close(mask: Uint8Array, width: number, height: number, radius: number): Uint8Array<ArrayBuffer> {
  return boxRank(boxRank(mask, width, height, radius, 1), width, height, radius, 0);
}

/** Dilation (`value` 1) or erosion (`value` 0): a pixel takes `value` where its box holds one. Running counts, O(pixels). */
function boxRank(mask: Uint8Array, width: number, height: number, radius: number, value: 0 | 1) {
  const along = (source: Uint8Array, lines: number, length: number, lineStep: number, step: number) => {
    const out = new Uint8Array(source.length);
    for (let line = 0; line < lines; line++) {
      const start = line * lineStep;
      let count = 0;
      for (let i = -radius; i < length; i++) {
        const enter = i + radius;
        if (enter < length && source[start + enter * step] === value) count++;
        if (i < 0) continue;
        const leave = i - radius - 1;
        if (leave >= 0 && source[start + leave * step] === value) count--;
        out[start + i * step] = count > 0 ? value : 1 - value;
      }
    }
    return out;
  };
  return along(along(mask, height, width, width, 1), width, height, 1, width);
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
  for (let seed = 0; seed < mask.length; seed++) {
    if (mask[seed] !== value || labels[seed] !== 0) continue;
    const label = areas.length;
    let area = 0;
    let edge = false;
    labels[seed] = label;
    stack.push(seed);
    while (stack.length > 0) {
      const at = stack.pop()!;
      const x = at % width;
      const y = (at - x) / width;
      area++;
      edge ||= x === 0 || y === 0 || x === width - 1 || y === height - 1;
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          if (value === 0 && dx !== 0 && dy !== 0) continue;
          const nx = x + dx;
          const ny = y + dy;
          if (nx < 0 || ny < 0 || nx >= width || ny >= height) continue;
          const next = ny * width + nx;
          if (mask[next] !== value || labels[next] !== 0) continue;
          labels[next] = label;
          stack.push(next);
        }
      }
    }
    areas.push(area);
    onEdge.push(edge);
  }
  return { labels, areas, onEdge };
}
