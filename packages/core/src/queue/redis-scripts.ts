import type { Hold } from './lock-keeper.ts';

/**
 * Renews locks that still are the caller's. KEYS: lock, stalled set, for each; ARGV: lease in ms, then token, id for each. Returns 1
 * or 0 for each. BullMQ renews with SET, which a full Redis refuses: every job in work would be lost and done twice. PEXPIRE needs
 * no memory.
 */
const RENEW = `
local held = {}
for i = 1, #KEYS, 2 do
  if redis.call('GET', KEYS[i]) == ARGV[i + 1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
    redis.call('SREM', KEYS[i + 1], ARGV[i + 2])
    table.insert(held, 1)
  else
    table.insert(held, 0)
  end
end
return held`;

/**
 * Removes a job that BullMQ handed over but cannot read, so that nobody knows its id: the one whose lock has the token. Or one that it cannot
 * end, by its id, unless another process has locked it. Left alone either would come back for ever. KEYS: active list, stalled set,
 * hash of dead jobs; ARGV: token, id or '', key prefix of jobs, field to count in, then the names of BullMQ's own keys, which no job
 * may take with it. Returns 1 or 0.
 */
const EVICT = `
local own = {}
for i = 5, #ARGV do own[ARGV[i]] = true end
local function holder(id) return redis.pcall('GET', ARGV[3] .. id .. ':lock') end
local id = ARGV[2] ~= '' and ARGV[2]
if not id then
  for _, active in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    if holder(active) == ARGV[1] then id = active end
  end
elseif holder(id) and holder(id) ~= ARGV[1] then
  return 0
end
if not id then return 0 end
local job = ARGV[3] .. id
redis.call('LREM', KEYS[1], 0, id)
redis.call('SREM', KEYS[2], id)
redis.call('DEL', job .. ':lock')
if not own[id] or (id ~= 'meta' and redis.call('TYPE', job).ok == 'hash') then redis.call('DEL', job) end
redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
return 1`;

/**
 * What the server says about itself, and which data it holds: the id of the keyspace, made now if there is none. KEYS: where that id
 * lies (in a cluster it also chooses the node); ARGV: a new id. Returns INFO and the id, or '' where a full Redis kept none.
 */
const INSPECT = `
local epoch = redis.call('GET', KEYS[1])
if not epoch and not redis.pcall('SET', KEYS[1], ARGV[1]).err then epoch = ARGV[1] end
return {redis.call('INFO'), epoch or ''}`;

/**
 * When the oldest of the waiting jobs was added, ms since the epoch; nil: none waits. Within a priority jobs wait in the order
 * added, so only the first of each is looked at. KEYS: BullMQ's lists `wait` and `paused`, set `prioritized`; ARGV: key prefix of jobs.
 */
const OLDEST = `
local oldest = false
local function look(id)
  local added = id and tonumber(redis.pcall('HGET', ARGV[1] .. id, 'timestamp'))
  if added and (not oldest or added < oldest) then oldest = added end
end
look(redis.call('LINDEX', KEYS[1], -1))
look(redis.call('LINDEX', KEYS[2], -1))
local from = 0
for _ = 1, 1000 do
  local first = redis.call('ZRANGEBYSCORE', KEYS[3], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not first[1] then break end
  look(first[1])
  from = string.format('%.0f', (math.floor(tonumber(first[2]) / 0x100000000) + 1) * 0x100000000)
end
return oldest`;

interface Evaluates {
  eval(script: string, keys: number, ...args: (string | number)[]): Promise<unknown>;
}

/** A queue's names for its keys, as BullMQ has them. */
export interface QueueNames {
  readonly name: string;
  readonly keys: object;
  toKey(type: string): string;
}

export interface RedisScripts {
  /** `INFO`, and the id of the data that lie under the prefix. */
  inspect(newEpoch: string): Promise<{ readonly info: string; readonly epoch: string }>;
  renew(holds: readonly Hold[], leaseMs: number): Promise<boolean[]>;
  /** ms since the epoch; null: none waits. */
  oldest(queue: QueueNames): Promise<number | null>;
  /** Removes what a token holds, or an id; true when there was something. */
  evict(queue: QueueNames, held: { readonly token: string; readonly id?: string }): Promise<boolean>;
}

/**
 * What BullMQ lacks, over the keys of its version 6. The scripts may name keys that they were not given: all keys of a prefix lie in one
 * hash slot.
 */
export function redisScripts(client: Evaluates, prefix: string): RedisScripts {
  return {
    async inspect(newEpoch) {
      const [info, epoch] = (await client.eval(INSPECT, 1, `${prefix}:epoch`, newEpoch)) as [string, string];
      return { info, epoch };
    },
    async renew(holds, leaseMs) {
      const keys = holds.flatMap(({ queue, id }) => [`${prefix}:${queue}:${id}:lock`, `${prefix}:${queue}:stalled`]);
      const marks = holds.flatMap(({ id, token }) => [token, id]);
      const held = (await client.eval(RENEW, keys.length, ...keys, leaseMs, ...marks)) as number[];
      return held.map((one) => one === 1);
    },
    async oldest(queue) {
      const keys = ['wait', 'paused', 'prioritized'].map((type) => queue.toKey(type));
      return (await client.eval(OLDEST, keys.length, ...keys, queue.toKey(''))) as number | null;
    },
    async evict(queue, { token, id = '' }) {
      const keys = [queue.toKey('active'), queue.toKey('stalled'), deadKey(prefix)];
      const own = Object.keys(queue.keys).filter((key) => key !== '');
      return (await client.eval(EVICT, keys.length, ...keys, token, id, queue.toKey(''), queue.name, ...own)) === 1;
    },
  };
}

/** Hash of dead jobs by queue. */
export const deadKey = (prefix: string): string => `${prefix}:dead`;
