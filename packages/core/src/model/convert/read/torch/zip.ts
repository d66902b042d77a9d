import { NightshiftError } from '../../../../errors.ts';
import type { CheckpointFile } from '../file.ts';

export interface ZipEntry {
  readonly name: string;
  /** First byte of the data, in the file. */
  readonly position: number;
  readonly bytes: number;
}

const END = { signature: 0x06054b50, bytes: 22 };
const END64_LOCATOR = { signature: 0x07064b50, bytes: 20 };
const END64 = { signature: 0x06064b50, bytes: 56 };
const CENTRAL = { signature: 0x02014b50, bytes: 46 };
const LOCAL = { signature: 0x04034b50, bytes: 30 };
const MAX_COMMENT = 0xffff;
const MAX_DIRECTORY_BYTES = 32 << 20;
const MAX_ENTRIES = 100_000;
const ENCRYPTED = 1;

/**
 * The entries of a zip archive, by its central directory, ZIP64 included. Entries must be stored, not compressed (torch.save stores
 * them, and what is not compressed cannot be a bomb), of different names, and share no byte. Format: PKWARE APPNOTE 6.3.
 *
 * @throws NightshiftError `weights-invalid`, `weights-unsupported`
 */
export async function readZip(file: CheckpointFile): Promise<ReadonlyMap<string, ZipEntry>> {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${file.path}: ${what}`);
  const { position, bytes, count } = await findDirectory(file, invalid);
  if (position + bytes > file.size) throw invalid('the zip directory lies past the end of the file: it is truncated');
  if (bytes > MAX_DIRECTORY_BYTES || count > MAX_ENTRIES || count * CENTRAL.bytes > bytes) {
    throw invalid(`a zip directory of ${bytes} bytes for ${count} entries`);
  }
  const directory = await file.read(position, bytes, 'the zip directory');
  const entries: (ZipEntry & { readonly header: number })[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL.bytes > bytes || directory.readUInt32LE(at) !== CENTRAL.signature) {
      throw invalid(`the zip directory is broken at entry ${i} of ${count}`);
    }
    const { name, end, header, stored } = readCentral(directory, at, invalid);
    entries.push({ name, header, position: await dataStart(file, header, name, invalid), bytes: stored });
    at = end;
  }
  if (at !== bytes) throw invalid(`${bytes - at} bytes of the zip directory are no entry`);
  checkLayout(entries, position, invalid);
  return new Map(entries.map((entry) => [entry.name, entry]));
}

type Invalid = (what: string) => NightshiftError;

async function findDirectory(file: CheckpointFile, invalid: Invalid) {
  const tailBytes = Math.min(file.size, END.bytes + MAX_COMMENT);
  const tailAt = file.size - tailBytes;
  const tail = await file.read(tailAt, tailBytes, 'the zip directory');
  let at = tailBytes - END.bytes;
  // The record whose comment ends with the file.
  while (
    at >= 0 &&
    !(tail.readUInt32LE(at) === END.signature && at + END.bytes + tail.readUInt16LE(at + 20) === tailBytes)
  ) {
    at--;
  }
  if (at < 0) throw invalid('a zip archive without its directory: it is truncated');
  const end = {
    position: tail.readUInt32LE(at + 16),
    bytes: tail.readUInt32LE(at + 12),
    count: tail.readUInt16LE(at + 10),
  };
  const disks = tail.readUInt32LE(at + 4);
  const locatorAt = tailAt + at - END64_LOCATOR.bytes;
  const locator = locatorAt >= 0 ? await file.read(locatorAt, END64_LOCATOR.bytes, 'the zip directory') : null;
  if (locator?.readUInt32LE() !== END64_LOCATOR.signature) {
    if (disks !== 0) throw invalid('a part of a zip archive of several files');
    return end;
  }
  const end64At = Number(locator.readBigUInt64LE(8));
  if (end64At + END64.bytes > locatorAt) throw invalid('the ZIP64 record does not lie before its locator');
  const end64 = await file.read(end64At, END64.bytes, 'the zip directory');
  if (end64.readUInt32LE() !== END64.signature || end64.readBigUInt64LE(16) !== 0n)
    throw invalid('the ZIP64 record is broken');
  const number = (offset: number) => Number(end64.readBigUInt64LE(offset));
  return { position: number(48), bytes: number(40), count: number(32) };
}

function readCentral(directory: Buffer, at: number, invalid: Invalid) {
  const [flags, method] = [directory.readUInt16LE(at + 8), directory.readUInt16LE(at + 10)];
  const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => directory.readUInt16LE(at + offset));
  const nameAt = at + CENTRAL.bytes;
  const extraAt = nameAt + nameBytes!;
  const end = extraAt + extraBytes! + commentBytes!;
  if (end > directory.length) throw invalid('the zip directory ends in the middle of an entry');
  const name = directory.toString('utf8', nameAt, extraAt);
  if (/\p{Cc}/u.test(name)) throw invalid('a zip entry with control characters in its name');
  if (flags & ENCRYPTED) throw new NightshiftError('weights-unsupported', invalid(`${name} is encrypted`).message);
  if (method !== 0) {
    const message = invalid(`${name} is compressed (method ${method}); torch.save stores`).message;
    throw new NightshiftError('weights-unsupported', message);
  }
  const wide = zip64Fields(directory.subarray(extraAt, extraAt + extraBytes!), name, invalid);
  const field = (offset: number) => {
    const value = directory.readUInt32LE(at + offset);
    return value === 0xffffffff ? wide() : value;
  };
  // In the order of the ZIP64 field: size, compressed size, offset.
  const [plain, stored, header] = [field(24), field(20), field(42)];
  if (plain !== stored) throw invalid(`${name} is stored, but claims ${plain} bytes of ${stored}`);
  return { name, end, header, stored };
}

/** Gives the 64-bit values of an entry's extra field one after the other. */
function zip64Fields(extra: Buffer, name: string, invalid: Invalid): () => number {
  let [at, end] = [0, 0];
  for (let field = 0; field + 4 <= extra.length; field += 4 + extra.readUInt16LE(field + 2)) {
    if (extra.readUInt16LE(field) === 1) {
      [at, end] = [field + 4, Math.min(extra.length, field + 4 + extra.readUInt16LE(field + 2))];
      break;
    }
  }
  return () => {
    if (at + 8 > end) throw invalid(`${name} lacks its ZIP64 sizes`);
    at += 8;
    return Number(extra.readBigUInt64LE(at - 8));
  };
}

async function dataStart(file: CheckpointFile, header: number, name: string, invalid: Invalid): Promise<number> {
  if (header + LOCAL.bytes > file.size) throw invalid(`${name} lies past the end of the file: it is truncated`);
  const local = await file.read(header, LOCAL.bytes, name);
  const [nameBytes, extraBytes] = [local.readUInt16LE(26), local.readUInt16LE(28)];
  const same = nameBytes === Buffer.byteLength(name) && header + LOCAL.bytes + nameBytes <= file.size;
  const ownName = same ? (await file.read(header + LOCAL.bytes, nameBytes, name)).toString('utf8') : null;
  if (local.readUInt32LE() !== LOCAL.signature || ownName !== name) {
    throw invalid(`the zip directory and the entry ${name} do not agree`);
  }
  return header + LOCAL.bytes + nameBytes + extraBytes;
}

function checkLayout(
  entries: readonly (ZipEntry & { readonly header: number })[],
  directoryAt: number,
  invalid: Invalid,
): void {
  const names = new Set<string>();
  let previous = { name: 'the start', end: 0 };
  for (const { name, header, position, bytes } of [...entries].sort((a, b) => a.header - b.header)) {
    if (names.has(name)) throw invalid(`two zip entries are called ${name}`);
    names.add(name);
    if (header < previous.end) throw invalid(`the zip entries ${previous.name} and ${name} overlap`);
    previous = { name, end: position + bytes };
    if (previous.end > directoryAt) throw invalid(`the zip entry ${name} runs into the directory: its length is wrong`);
  }
}
