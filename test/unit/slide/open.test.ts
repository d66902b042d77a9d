import { describe, expect, test } from 'vitest';
import { resolveMpp } from '../../../packages/core/src/slide/mpp.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { mpp } from '../../../packages/core/src/units.ts';
import {
  aperioPages,
  memorySource,
  type TiffOptions,
  type WrittenPage,
  writeTiff,
} from '../../fixtures/slides/write-tiff.ts';

const pages = await aperioPages({ levels: 3 });
const generic = pages.map(({ description: _, ...page }) => page);
const open = (content: readonly WrittenPage[], options?: TiffOptions) =>
  openSlide(memorySource(writeTiff(content, options)));

describe('containers', () => {
  test.each<[string, TiffOptions]>([
    ['classic TIFF, little endian', {}],
    ['classic TIFF, big endian', { bigEndian: true }],
    ['BigTIFF, little endian', { big: true }],
    ['BigTIFF, big endian', { big: true, bigEndian: true }],
    ['IFDs before the pixels', { ifdsFirst: true }],
    ['BigTIFF with IFDs before the pixels', { big: true, ifdsFirst: true }],
  ])('%s', async (_, options) => {
    const bytes = writeTiff(pages, options);
    const slide = await openSlide(memorySource(bytes));
    expect(slide.format).toBe(options.big ? 'bigtiff' : 'tiff');
    expect(slide.levels.map(({ width, height, columns, rows }) => [width, height, columns, rows])).toEqual([
      [300, 200, 5, 4],
      [150, 100, 3, 2],
      [75, 50, 2, 1],
    ]);
    expect(slide.levels.map(({ downsample }) => downsample)).toEqual([1, 2, 4]);
    for (const [level, page] of pages.entries()) {
      const index = await slide.blocks(level);
      const { columns } = slide.levels[level]!;
      const stored = page.tiles.map((_, i) => {
        const { offset, length } = index.range(i % columns, Math.floor(i / columns))!;
        return bytes.subarray(offset, offset + length);
      });
      expect(stored).toEqual(page.tiles);
    }
  });

  test('a header takes few requests', async () => {
    const requests: number[] = [];
    const inner = memorySource(writeTiff(pages));
    await openSlide({
      ...inner,
      read: (ranges, signal) => {
        requests.push(ranges.length);
        return inner.read(ranges, signal);
      },
    });
    expect(requests.length).toBeLessThanOrEqual(3);
  });
});

describe('levels', () => {
  test('are ordered by downsample whatever their order in the file', async () => {
    for (const order of [
      [2, 0, 1],
      [1, 2, 0],
    ]) {
      const slide = await open(order.map((i) => pages[i]!));
      expect(slide.levels.map(({ width }) => width)).toEqual([300, 150, 75]);
    }
  });

  test('striped pages (thumbnail, label, macro) are none', async () => {
    const strip: WrittenPage = { ...pages[2]!, striped: true, tiles: [pages[2]!.tiles[0]!], subfileType: 1 };
    const slide = await open([pages[0]!, strip, pages[1]!, { ...strip, compression: 5 }]);
    expect(slide.levels.map(({ width }) => width)).toEqual([300, 150]);
  });

  test('of a generic TIFF have its aspect; equal sizes (planes, channels) count once', async () => {
    const plane = { ...generic[1]!, width: 200, height: 150, tiles: generic[0]!.tiles.slice(0, 12) };
    const slide = await open([generic[0]!, generic[0]!, plane, generic[1]!, { ...generic[2]!, subfileType: 1 }]);
    expect(slide.levels.map(({ width, height }) => [width, height])).toEqual([
      [300, 200],
      [150, 100],
      [75, 50],
    ]);
  });

  test('of an OME-TIFF may be sub-IFDs of its first page', async () => {
    const slide = await open([{ ...generic[0]!, subPages: [generic[1]!, generic[2]!] }], { bigEndian: true });
    expect(slide.levels.map(({ width }) => width)).toEqual([300, 150, 75]);
  });
});

describe('vendor', () => {
  test('Aperio: mpp for both axes and objective power from the description', async () => {
    const slide = await open(pages);
    expect(slide).toMatchObject({ vendor: 'aperio', objectivePower: 20, mpp: { x: 0.5, y: 0.5, source: 'aperio' } });
  });

  test.each([
    ['MPP = 0,2527', 0.2527],
    ['MPP=0.25', 0.25],
    ['MPP = 2.5e-1', 0.25],
    ['MPP = unknown', null],
    ['MPP = ', null],
    ['Mpp = 0.25', null],
  ])('Aperio: "%s" gives %s', async (text, expected) => {
    const description = `Aperio Image|AppMag = 40|${text}|Left = 1`;
    const slide = await open([{ ...pages[0]!, description }]);
    expect(slide.mpp?.x ?? null).toBe(expected);
  });

  test('Aperio: the resolution tags are no fallback', async () => {
    const tags = {
      282: { type: 'rational', values: [40_000, 1] },
      283: { type: 'rational', values: [40_000, 1] },
    } as const;
    const slide = await open([{ ...pages[0]!, description: 'Aperio without', tags }]);
    expect(slide.mpp).toBeNull();
  });

  const resolution = (unit: number | null, x: [number, number], y = x) => ({
    ...generic[0]!,
    tags: {
      282: { type: 'rational', values: x },
      283: { type: 'rational', values: y },
      296: unit === null ? null : { type: 'short', values: [unit] },
    } as WrittenPage['tags'] & object,
  });

  test.each([
    ['centimetre', 3, 0.25],
    ['inch', 2, 0.635],
    ['absent, which means inch', null, 0.635],
  ] as const)('generic TIFF: mpp by the unit %s', async (_, unit, expected) => {
    const slide = await open([resolution(unit, [40_000, 1])]);
    expect(slide).toMatchObject({ vendor: 'generic-tiff', objectivePower: null });
    expect(slide.mpp).toMatchObject({ source: 'tiff-resolution' });
    expect(slide.mpp?.x).toBeCloseTo(expected, 12);
  });

  test.each([
    ['no unit', resolution(1, [40_000, 1])],
    ['an unknown unit', resolution(9, [40_000, 1])],
    ['zero', resolution(3, [0, 1])],
    ['a zero denominator', resolution(3, [40_000, 0])],
    ['no resolution', generic[0]!],
  ])('generic TIFF: no mpp from %s', async (_, page) => {
    expect((await open([page])).mpp).toBeNull();
  });

  const ome = (pixels: string, more = '') =>
    `<?xml version="1.0" encoding="UTF-8"?><!-- a > b --><OME xmlns="x" Creator="Dr CANARY">${more}<Image ID="Image:0"><Description>CANARY</Description><Pixels ID="Pixels:0" SizeX="300" SizeY="200" ${pixels}><Channel/></Pixels></Image></OME>`;
  const utf8 = (text: string): WrittenPage['tags'] & object => ({ 270: { type: 'bytes', bytes: Buffer.from(text) } });

  test.each([
    ['micrometres by default', 'PhysicalSizeX="0.25" PhysicalSizeY="0.26"', [0.25, 0.26]],
    ['µm', 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25" PhysicalSizeYUnit="µm"', [0.25, 0.25]],
    [
      'nm and mm',
      'PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="2.5E-4" PhysicalSizeYUnit="mm"',
      [0.25, 0.25],
    ],
  ])('OME-TIFF: mpp from the XML, %s', async (_, pixels, [x, y]) => {
    const objective = '<Instrument><Objective NominalMagnification="40.0"/></Instrument>';
    const slide = await open([
      { ...resolution(2, [72, 1]), tags: { ...resolution(2, [72, 1]).tags, ...utf8(ome(pixels, objective)) } },
    ]);
    expect(slide).toMatchObject({ vendor: 'ome', objectivePower: 40, mpp: { source: 'ome' } });
    expect(slide.mpp!.x).toBeCloseTo(x!, 12);
    expect(slide.mpp!.y).toBeCloseTo(y!, 12);
    expect(JSON.stringify({ ...slide, source: null })).not.toContain('CANARY');
  });

  test.each([
    [
      'its unit is no length',
      ome('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"'),
    ],
    ['one side is missing', ome('PhysicalSizeX="0.25"')],
    ['it is no number', ome('PhysicalSizeX="NaN" PhysicalSizeY="NaN"')],
    [
      'it belongs to an image of another size',
      ome('PhysicalSizeX="0.25" PhysicalSizeY="0.25"').replace('"300"', '"3000"'),
    ],
    [
      'it lies behind the part that is looked at',
      ome('PhysicalSizeX="0.25" PhysicalSizeY="0.25"', `<X a="${'a'.repeat(70_000)}"/>`),
    ],
    ['the XML ends within a tag', ome('PhysicalSizeX="0.25" PhysicalSizeY="0.25"').split('><Channel')[0]!],
  ])('OME-TIFF: the resolution tags count where %s', async (_, text) => {
    const tags = { ...resolution(3, [40_000, 1]).tags, ...utf8(text) };
    const slide = await open([{ ...generic[0]!, tags }]);
    expect(slide).toMatchObject({ vendor: 'ome', objectivePower: null });
    expect(slide.mpp).toEqual({ x: 0.25, y: 0.25, source: 'tiff-resolution' });
  });

  test.each([
    ['no iScan element', { 270: { type: 'ascii', text: 'level=0 mag=40 quality=90' } }],
    ['has no level', { 700: { type: 'bytes', bytes: Buffer.from('<Metadata><iScan Mag="40"/>') } }],
  ] as [string, WrittenPage['tags'] & object][])(
    'a slide of Ventana that %s is refused, not read as something else',
    async (reason, tags) => {
      await expect(open([{ ...generic[0]!, tags }])).rejects.toMatchObject({
        code: 'slide-unsupported',
        message: expect.stringContaining(reason),
      });
    },
  );
});

describe('what cannot be decoded is refused with the reason', () => {
  test.each([
    [{ compression: 5 }, 'its lzw tiles hold YCbCr'],
    [{ compression: 1 }, 'its raw tiles hold YCbCr'],
    [{ compression: 8, photometric: 2, tags: { 317: { type: 'short', values: [3] } } as const }, 'predictor 3'],
    [{ compression: 6 }, 'old-style JPEG'],
    [{ compression: 50_001 }, 'WebP'],
    [{ compression: 12_345 }, 'method 12345'],
    [{ bits: [16, 16, 16] }, '3 channels of 16 bits'],
    [{ bits: [8] }, '1 channel of 8 bits'],
    [{ bits: [8, 8, 8, 8] }, '4 channels'],
    [{ photometric: 3 }, 'a palette'],
    [{ tags: { 284: { type: 'short', values: [2] } } as const }, 'stored apart'],
  ])('%j', async (change, reason) => {
    await expect(open([{ ...generic[0]!, ...change }])).rejects.toMatchObject({
      code: 'slide-unsupported',
      message: expect.stringContaining(reason),
    });
  });

  test('a TIFF without tiles', async () => {
    const strip = { ...generic[2]!, striped: true, tiles: [generic[2]!.tiles[0]!] };
    await expect(open([strip])).rejects.toMatchObject({ code: 'slide-unsupported' });
  });

  test('the source is closed', async () => {
    let closed = 0;
    const source = { ...memorySource(Buffer.from('no slide')), close: async () => void closed++ };
    await expect(openSlide(source)).rejects.toMatchObject({ code: 'slide-not-a-slide' });
    expect(closed).toBe(1);
  });
});

describe('mpp', () => {
  const at = (value: string) => aperioPages({ width: 64, height: 64, mpp: value }).then((made) => open(made));

  test('the person’s own word wins over the file', async () => {
    expect(resolveMpp(await at('0.25'), mpp(0.5))).toEqual({ x: 0.5, y: 0.5, source: 'override' });
    expect(resolveMpp(await at('0.25'), null)).toEqual({ x: 0.25, y: 0.25, source: 'aperio' });
  });

  test('sides that differ are both kept, up to a factor of 4', async () => {
    const slide = await at('0.25');
    const oblong = (x: number, y: number) => ({ ...slide, mpp: { x: mpp(x), y: mpp(y), source: 'ome' } as const });
    for (const [x, y] of [
      [0.25, 0.5],
      [1, 0.25],
    ] as const) {
      expect(resolveMpp(oblong(x, y), null)).toEqual({ x, y, source: 'ome' });
    }
    expect(() => resolveMpp(oblong(0.25, 1.1), null)).toThrow(
      expect.objectContaining({
        code: 'mpp-absurd',
        message: expect.stringMatching(/0\.25 x 1\.1 um\/px by ome: one side is 4\.4 times the other, .* up to 4 /),
        next: expect.stringContaining('--slide-mpp'),
      }),
    );
    expect(resolveMpp({ ...oblong(0.25, 1.1), objectivePower: 20 }, null, true)).toMatchObject({ source: 'estimate' });
    expect(resolveMpp(oblong(0.25, 1.1), mpp(0.25))).toMatchObject({ x: 0.25, y: 0.25, source: 'override' });
  });

  test('none is mpp-missing, and the next step names the flag', async () => {
    const slide = await open([generic[0]!]);
    expect(() => resolveMpp(slide, null)).toThrow(
      expect.objectContaining({ code: 'mpp-missing', next: expect.stringContaining('--slide-mpp') }),
    );
  });

  test.each(['0', '0.049', '20.1', '264.6', '1000', '-0.25'])('%s um/px is mpp-absurd', async (value) => {
    const slide = await at(value);
    expect(() => resolveMpp(slide, null)).toThrow(expect.objectContaining({ code: 'mpp-absurd' }));
  });

  test.each([0, Number.NaN, 21, Number.POSITIVE_INFINITY])('an override of %s is mpp-absurd', async (value) => {
    const slide = await at('0.25');
    expect(() => resolveMpp(slide, mpp(value))).toThrow(expect.objectContaining({ code: 'mpp-absurd' }));
  });

  test('the objective power answers on request, where the file states nothing plausible', async () => {
    const absurd = { ...(await at('352.8')), objectivePower: 40 };
    expect(resolveMpp(absurd, null, true)).toEqual({ x: 0.25, y: 0.25, source: 'estimate' });
    expect(resolveMpp({ ...absurd, mpp: null, objectivePower: 20 }, null, true).x).toBe(0.5);
    expect(resolveMpp({ ...(await at('0.23')), objectivePower: 20 }, null, true)).toMatchObject({
      x: 0.23,
      source: 'aperio',
    });
    expect(resolveMpp(absurd, mpp(0.3), true)).toMatchObject({ x: 0.3, source: 'override' });
    for (const objectivePower of [null, 0, 1e6, -40]) {
      expect(() => resolveMpp({ ...absurd, objectivePower }, null, true)).toThrow(
        expect.objectContaining({ code: 'mpp-absurd' }),
      );
    }
  });

  test('the dots per inch of a picture editor are named', async () => {
    const tags = { 282: { type: 'rational', values: [72, 1] }, 283: { type: 'rational', values: [72, 1] } } as const;
    const slide = await open([{ ...generic[0]!, tags }]);
    expect(() => resolveMpp(slide, null)).toThrow(/352\.8 um\/px.*72 dpi/);
  });
});

test('nothing of the description is passed on', async () => {
  const slide = await open(pages);
  const { source: _, ...facts } = slide;
  expect(JSON.stringify([facts, slide.codec(0)])).not.toContain('CANARY');
  for (const bad of [{ compression: 5 }, { bits: [16] }, { tags: { 324: null } }]) {
    const error = await open([{ ...pages[0]!, ...bad }]).catch((e: unknown) => e);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('CANARY');
  }
});
