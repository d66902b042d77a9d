import { join } from 'node:path';
import { fileBlobs } from '@nightshift/core';
import { temporaryDirectory } from '../fixtures/record.ts';
import { blobsContract } from './blobs.ts';

const program = join(import.meta.dirname, '../fixtures/blob-writer.ts');

async function inDirectory(hardLinks: boolean) {
  const dir = join(await temporaryDirectory(), 'record');
  return { blobs: fileBlobs(dir, { hardLinks }), writer: (key: string) => [program, dir, key] };
}

blobsContract('files', () => inDirectory(true));
blobsContract('files without hard links', () => inDirectory(false));
