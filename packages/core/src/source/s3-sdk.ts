import { S3Client } from '@aws-sdk/client-s3';
import { isUnsigned, type S3Config, type S3Location } from './s3-config.ts';

/** The SDK's clients of one store: a bucket has a region, and its requests are signed or not. */
export interface S3Sdk {
  of(at: S3Location): S3Client;
  /** The store said in which region a bucket lies: from now on it is asked there. */
  move(at: S3Location, region: string): void;
  close(): void;
}

export function s3Sdk(config: S3Config, { connectMs }: { readonly connectMs: number }): S3Sdk {
  const clients = new Map<string, S3Client>();
  const regions = new Map<string, string>();

  function connect(region: string | null, unsigned: boolean): S3Client {
    return new S3Client({
      ...(config.endpoint !== null && { endpoint: config.endpoint }),
      ...(region !== null && { region }),
      forcePathStyle: config.pathStyle,
      requestChecksumCalculation: config.requestChecksums,
      responseChecksumValidation: config.responseChecksums,
      // Retried by us: where the SDK did it too, eight tries would be twenty-four.
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: connectMs,
        // More than ever run at once: what waits, waits in the throttle, where no deadline counts.
        httpAgent: { keepAlive: true, maxSockets: 256 },
        httpsAgent: { keepAlive: true, maxSockets: 256 },
      },
      ...(unsigned && {
        credentials: { accessKeyId: '', secretAccessKey: '' },
        signer: { sign: async (request) => request },
      }),
    });
  }

  return {
    of({ bucket }) {
      const region = regions.get(bucket) ?? config.region;
      const unsigned = isUnsigned(config, bucket);
      const key = `${region} ${unsigned}`;
      const client = clients.get(key) ?? connect(region, unsigned);
      clients.set(key, client);
      return client;
    },
    move: ({ bucket }, region) => void regions.set(bucket, region),
    close() {
      for (const client of clients.values()) client.destroy();
    },
  };
}
