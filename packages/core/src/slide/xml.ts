/** An element of an XML text. Names are without their namespace prefix. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Characters directly below it, trimmed. */
  readonly text: string;
}

/** Tags that a text may hold, opening and closing. Metadata of a slide has some hundreds. */
const MOST_TAGS = 20_000;
const MOST_DEPTH = 64;

/** A name that follows the start or a space: no long word is looked at from each of its letters. */
const ATTRIBUTE = /(?<!\S)([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g;

/**
 * The elements of an XML text as slides carry it: of a declaration of types nothing is used, of entities the five of XML and
 * numbers. What a text that was cut short leaves open ends with it. Null where there is no element, or too many. Takes time in
 * proportion to the text, whatever it holds.
 */
export function parseXml(text: string, mostTags: number = MOST_TAGS): XmlElement | null {
  const root: Open = { name: '', attributes: new Map(), children: [], text: '' };
  const open: Open[] = [root];
  let count = 0;
  for (let at = 0; at < text.length; ) {
    const start = text.indexOf('<', at);
    open.at(-1)!.text += plain(text.slice(at, start < 0 ? text.length : start));
    if (start < 0) break;
    const kind = BRACKETS.find(({ from }) => text.startsWith(from, start));
    const end = kind ? text.indexOf(kind.to, start) : tagEnd(text, start);
    if (end < 0) break;
    at = end + (kind?.to.length ?? 1);
    if (kind?.text) open.at(-1)!.text += text.slice(start + kind.from.length, end);
    if (kind) continue;
    if (++count > mostTags) return null;
    const [, slash, name, rest] = /^(\/?)([^\s/]*)([\s\S]*)$/.exec(text.slice(start + 1, end))!;
    if (slash === '/') {
      const closed = open.findLastIndex((element) => element.name === local(name!));
      if (closed > 0) open.length = closed;
      continue;
    }
    if (open.length > MOST_DEPTH) return null;
    const element: Open = { name: local(name!), attributes: attributesOf(rest!), children: [], text: '' };
    open.at(-1)!.children.push(element);
    if (!rest!.endsWith('/')) open.push(element);
  }
  return root.children[0] === undefined ? null : trimmed(root.children[0]);
}

/** What is no tag. */
const BRACKETS = [
  { from: '<!--', to: '-->', text: false },
  { from: '<![CDATA[', to: ']]>', text: true },
  { from: '<!', to: '>', text: false },
  { from: '<?', to: '?>', text: false },
] as const;

/** Where the tag that starts at `from` ends: a quoted value may hold a `>`. */
function tagEnd(text: string, from: number): number {
  let quote = '';
  for (let i = from + 1; i < text.length; i++) {
    const c = text[i]!;
    if (quote !== '') {
      if (c === quote) quote = '';
    } else if (c === '>') return i;
    else if (c === '"' || c === "'") quote = c;
  }
  return -1;
}

/** Every element of a name at or below another one, in the order of the text. */
export function findAll(element: XmlElement, name: string): XmlElement[] {
  const below = element.children.flatMap((child) => findAll(child, name));
  return element.name === name ? [element, ...below] : below;
}

/** A number of an attribute or of text, null where it is none. */
export function xmlNumber(text: string | undefined): number | null {
  return text !== undefined && /^\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*$/i.test(text) ? Number(text) : null;
}

interface Open {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: Open[];
  text: string;
}

const local = (name: string): string => name.slice(name.lastIndexOf(':') + 1);

function attributesOf(text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name, double, single] of text.matchAll(ATTRIBUTE)) {
    attributes.set(local(name!), plain(double ?? single ?? ''));
  }
  return attributes;
}

function plain(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(#x?[0-9a-f]{1,6}|amp|lt|gt|quot|apos);/gi, (whole, name: string) => {
    const known = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }[name.toLowerCase()];
    if (known !== undefined) return known;
    const code = Number(/^#x/i.test(name) ? `0x${name.slice(2)}` : name.slice(1));
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function trimmed(element: Open): XmlElement {
  return { ...element, text: element.text.trim(), children: element.children.map(trimmed) };
}
