/**
 * The Lua that BullMQ lacks, over the keys of its version 6. It may name keys that it was not given: all keys of a prefix lie in one
 * hash slot.
 */

/**
 * Renews locks that still are the caller's. KEYS: lock, stalled set, for each; ARGV: lease in ms, then token, id for each. Returns 1
 * or 0 for each. BullMQ renews with SET, which a full Redis refuses: every job in work would be lost and done twice. PEXPIRE needs
 * no memory.
 */
export const RENEW = `
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
 * Removes the job whose lock has a token: one that BullMQ handed over but cannot parse, so that nobody knows its id. Left alone it would
 * stall and come back for ever. KEYS: active list, stalled set, hash of dead jobs; ARGV: token, key prefix of jobs, field to count in,
 * then the names that are BullMQ's own and no job. Returns 1 or 0.
 */
export const EVICT = `
local own = {}
for i = 4, #ARGV do own[ARGV[i]] = true end
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local lock = ARGV[2] .. id .. ':lock'
  if redis.pcall('GET', lock) == ARGV[1] then
    redis.call('LREM', KEYS[1], 0, id)
    redis.call('SREM', KEYS[2], id)
    redis.call('DEL', lock)
    if not own[id] then redis.call('DEL', ARGV[2] .. id) end
    redis.call('HINCRBY', KEYS[3], ARGV[3], 1)
    return 1
  end
end
return 0`;

/**
 * What the server says about itself, and which data it holds: the id of the keyspace, made now if there is none. KEYS: where that id
 * lies (in a cluster it also chooses the node); ARGV: a new id. Returns INFO and the id, or '' where a full Redis kept none.
 */
export const INSPECT = `
local epoch = redis.call('GET', KEYS[1])
if not epoch and not redis.pcall('SET', KEYS[1], ARGV[1]).err then epoch = ARGV[1] end
return {redis.call('INFO'), epoch or ''}`;
