import { NightshiftError } from '../errors.ts';
import type { ListedObject, ObjectListing } from './list.ts';
import { contentIdOf } from './s3.ts';
import type { S3 } from './s3-client.ts';
import { parseS3Uri, s3Uri } from './s3-config.ts';

/** Content of one object is fetched in pieces of this size: a manifest can be longer than memory. */
const PIECE_BYTES = 4 << 20;

/** Buckets as `listSources` sees them: a page of keys at a time, whatever their number. */
export function s3Listing(client: S3): ObjectListing & { filesOf(folder: string): AsyncIterable<ListedObject> } {
  return {
    /** The objects directly in a folder, but for hidden ones. */
    async *filesOf(folder) {
      for await (const object of this.under(folder)) {
        const name = object.uri.slice(folder.length);
        if (!name.includes('/') && !name.startsWith('.')) yield object;
      }
    },

    async contentId(uri) {
      const found = await client.head(parseS3Uri(uri));
      return found && contentIdOf(found);
    },

    async *under(prefix) {
      const at = parseS3Uri(prefix);
      let after: string | undefined;
      do {
        const { objects, next } = await client.list(at, after);
        for (const object of objects) {
          yield { uri: s3Uri({ bucket: at.bucket, key: object.key }), contentId: contentIdOf(object) };
        }
        after = next;
      } while (after !== undefined);
    },

    async *content(uri) {
      const at = parseS3Uri(uri);
      const found = await client.head(at);
      for (let offset = 0; found !== null && offset < found.size; offset += PIECE_BYTES) {
        const target = new Uint8Array(Math.min(PIECE_BYTES, found.size - offset));
        if ((await client.read(at, { offset, target, etag: found.etag })) !== 'read') {
          throw new NightshiftError('source-not-found', `${uri} was replaced or removed while it was read`, {
            next: 'Run the same command again.',
          });
        }
        yield target;
      }
    },
  };
}
