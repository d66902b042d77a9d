import { describe, expect, it } from 'vitest';
import { isUnsigned, parseS3Uri, s3ConfigFromEnv } from '../../../packages/core/src/source/s3-config.ts';

describe('the settings of S3', () => {
  it('are those of AWS where nothing is set', () => {
    expect(s3ConfigFromEnv({})).toEqual({
      endpoint: null,
      region: null,
      pathStyle: false,
      noSignRequest: false,
      requesterPays: false,
      requestChecksums: 'WHEN_SUPPORTED',
      responseChecksums: 'WHEN_SUPPORTED',
    });
  });

  it('suit other stores where an endpoint is given: path style, a region to sign with, no checksums unasked', () => {
    expect(s3ConfigFromEnv({ AWS_ENDPOINT_URL: 'http://localhost:9000' })).toMatchObject({
      endpoint: 'http://localhost:9000',
      region: 'us-east-1',
      pathStyle: true,
      requestChecksums: 'WHEN_REQUIRED',
      responseChecksums: 'WHEN_REQUIRED',
    });
  });

  it('keep checksums at an endpoint of AWS', () => {
    const endpoint = 'https://vpce-1.s3.eu-west-1.vpce.amazonaws.com';
    expect(s3ConfigFromEnv({ AWS_ENDPOINT_URL_S3: endpoint }).requestChecksums).toBe('WHEN_SUPPORTED');
  });

  it('prefer our own name to AWS’s, and the S3 endpoint to the one of all services', () => {
    const env = {
      AWS_ENDPOINT_URL: 'http://all',
      AWS_ENDPOINT_URL_S3: 'http://s3',
      AWS_REGION: 'eu-west-1',
      NIGHTSHIFT_S3_REGION: 'auto',
    };
    expect(s3ConfigFromEnv(env)).toMatchObject({ endpoint: 'http://s3', region: 'auto' });
    expect(s3ConfigFromEnv({ ...env, NIGHTSHIFT_S3_ENDPOINT: 'http://own' }).endpoint).toBe('http://own');
  });

  it('take switches as people write them', () => {
    const env = {
      NIGHTSHIFT_S3_NO_SIGN_REQUEST: 'true',
      NIGHTSHIFT_S3_REQUESTER_PAYS: '1',
      NIGHTSHIFT_S3_PATH_STYLE: '',
    };
    expect(s3ConfigFromEnv(env)).toMatchObject({ noSignRequest: true, requesterPays: true, pathStyle: false });
  });

  it('leave requests unsigned for all buckets, or for those that are named', () => {
    const of = (value: string) => s3ConfigFromEnv({ NIGHTSHIFT_S3_NO_SIGN_REQUEST: value });
    const buckets = ['idc-open-data', 'idc-open-data-two', 'mine'];
    const unsigned = (value: string) => buckets.filter((bucket) => isUnsigned(of(value), bucket));
    expect(unsigned('1')).toEqual(buckets);
    expect(unsigned('')).toEqual([]);
    expect(unsigned('idc-open-data')).toEqual(['idc-open-data']);
    expect(unsigned('idc-open-data, idc-open-data-two')).toEqual(['idc-open-data', 'idc-open-data-two']);
  });

  it.each([
    [{ NIGHTSHIFT_S3_NO_SIGN_REQUEST: 's3://idc-open-data' }, 'NIGHTSHIFT_S3_NO_SIGN_REQUEST'],
    [{ NIGHTSHIFT_S3_NO_SIGN_REQUEST: 'yes,no' }, 'NIGHTSHIFT_S3_NO_SIGN_REQUEST'],
    [{ NIGHTSHIFT_S3_PATH_STYLE: 'maybe' }, 'NIGHTSHIFT_S3_PATH_STYLE'],
    [{ AWS_ENDPOINT_URL: 'localhost:9000' }, 'AWS_ENDPOINT_URL'],
    [{ AWS_ENDPOINT_URL_S3: 'not a url' }, 'AWS_ENDPOINT_URL_S3'],
    [{ AWS_REQUEST_CHECKSUM_CALCULATION: 'NEVER' }, 'AWS_REQUEST_CHECKSUM_CALCULATION'],
    [{ NIGHTSHIFT_S3_REQUESTER_PAY: '1' }, 'NIGHTSHIFT_S3_REQUESTER_PAY'],
  ])('are refused by name: %j', (env, name) => {
    expect(() => s3ConfigFromEnv(env)).toThrow(expect.objectContaining({ code: 'setting-invalid', exit: 4 }));
    expect(() => s3ConfigFromEnv(env)).toThrow(`${name} `);
  });

  it('are refused without repeating a password that stands in the endpoint', () => {
    const read = () => s3ConfigFromEnv({ AWS_ENDPOINT_URL: 'http://user:hunter2@host' });
    expect(read).toThrow('AWS_ENDPOINT_URL holds a user or a password');
    expect(read).not.toThrow('hunter2');
  });
});

describe('an s3:// URI', () => {
  it('is a bucket and a key, taken as it is written', () => {
    expect(parseS3Uri('s3://bucket/a/b c%20#?.svs')).toEqual({ bucket: 'bucket', key: 'a/b c%20#?.svs' });
    expect(parseS3Uri('s3://bucket')).toEqual({ bucket: 'bucket', key: '' });
    expect(parseS3Uri('s3://bucket/')).toEqual({ bucket: 'bucket', key: '' });
  });

  it.each(['s3://', 's3:///key', 's3://b*/key', 'http://bucket/key'])('needs a bucket: %s', (uri) => {
    expect(() => parseS3Uri(uri)).toThrow(expect.objectContaining({ code: 'usage' }));
  });
});
