/** Sections of an INI file and their values. */
export type Ini = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** The text of an INI file as MIRAX writes it: `[section]`, `key = value`, comments from `;` or `#`, an optional byte order mark. */
export function parseIni(text: string): Ini {
  const sections = new Map<string, Map<string, string>>();
  let section = new Map<string, string>();
  for (const line of text.replace(/^\u{feff}/u, '').split(/\r?\n/)) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith(';') || trimmed.startsWith('#')) continue;
    if (trimmed.startsWith('[') && trimmed.endsWith(']')) {
      const name = trimmed.slice(1, -1);
      section = sections.get(name) ?? new Map();
      sections.set(name, section);
      continue;
    }
    const equals = trimmed.indexOf('=');
    if (equals > 0) section.set(trimmed.slice(0, equals).trim(), trimmed.slice(equals + 1).trim());
  }
  return sections;
}
