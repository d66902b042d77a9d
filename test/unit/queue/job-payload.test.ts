import { isNightshiftError, type Job, mpp, type Role } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { decodeJob, encodeJob, MOST_JOB_BYTES } from '../../../packages/core/src/queue/job-payload.ts';
import { goodJob, mutatedPayloads } from '../../fixtures/hostile-jobs.ts';

const refusal = (role: Role, job: Job): string => {
  try {
    encodeJob(role, job);
  } catch (error) {
    if (isNightshiftError(error, 'job-invalid')) return error.message;
    throw error;
  }
  return 'accepted';
};

describe('a job in Redis', () => {
  it('comes back as it was added', () => {
    const job = goodJob('shard-1');
    expect(decodeJob('embed', job.id, JSON.parse(JSON.stringify(encodeJob('embed', job))))).toEqual({ job });
  });

  it('keeps what is part of a slide: its own mpp and the digest of its outline', () => {
    const job = goodJob('shard-1');
    const own = { ...job, slide: { ...job.slide, mpp: mpp(0.3), outline: 'f'.repeat(64) } };
    expect(decodeJob('embed', own.id, JSON.parse(JSON.stringify(encodeJob('embed', own))))).toEqual({ job: own });
  });

  it('may hold what the next version adds', () => {
    const payload = { ...encodeJob('embed', goodJob('a')), hint: 'from 0.2' };
    expect(decodeJob('embed', 'a', payload)).toEqual({ job: goodJob('a') });
  });

  it('is at most 4 KB', () => {
    const job = goodJob('a');
    const long = (length: number) => ({ ...job, slide: { ...job.slide, uri: `s3://b/${'x'.repeat(length)}` } });
    expect(refusal('embed', long(1000))).toBe('accepted');
    expect(refusal('embed', long(5000))).toContain(`at most ${MOST_JOB_BYTES} are allowed`);
  });

  it.each(['12345', 'a:b', '', 'ü', 'x'.repeat(401), 'a/b'])('has an id that Redis and BullMQ take, not %s', (id) => {
    expect(refusal('embed', goodJob(id))).toContain('the id is not');
  });

  it('names a shard exactly when it is to be embedded', () => {
    const { shard: _, ...whole } = goodJob('a');
    expect(refusal('embed', whole)).toContain('names a shard');
    expect(refusal('plan', goodJob('a'))).toContain('names no shard');
    expect(refusal('index', whole)).toBe('accepted');
  });

  it('is refused by name for 200 payloads that are no job, and never throws', () => {
    const payloads = mutatedPayloads(200);
    expect(payloads.length).toBe(200);
    for (const payload of payloads) {
      const decoded = decodeJob('embed', 'a', payload);
      expect('problem' in decoded && decoded.problem, JSON.stringify(payload)?.slice(0, 300)).toMatch(/\w/);
    }
  });
});
