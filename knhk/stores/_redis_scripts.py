"""
What the Redis store does inside the server: each script is one step of the server, which nothing comes between.

All keys of a store begin with the root, ``{namespace}:``, so that a cluster keeps them in one slot:

==========================  ==========  ===============================================================================
``format``                  string      the number of this layout
``w:`` writer               string      the last group of this process, and what its callers were told; forgotten after a day
``c:`` case                 hash        v version, p specification, w its version, s state, d due, r runnable, q quarantined
``j:`` case                 list        the batches
``x:`` case                 string      the version of the snapshot (8 bytes), the snapshot
``ids``                     sorted set  all cases
``ids:p:`` specification    sorted set  its cases; likewise ``ids:s:`` state, ``ids:b:`` both
``due``, ``runnable``       sorted set  when (8 bytes) and case; cases
``keys``                    hash        idempotency key: length of the case id, ``:``, case id, digest
``keyed``                   sorted set  idempotency keys
``items``                   hash        case and number: the sorted sets it is in, the row
``i``                       sorted set  all items
``i:s:`` state              sorted set  its items, but for those of cases set aside; likewise ``i:b:`` by, ``i:t:`` topic,
                                        ``i:a:`` audience
``d:`` collection           hash        key: version (8 bytes), whether due, when (8 bytes), value
``dk:``, ``dd:`` collection sorted set  keys; when (8 bytes) and key
``collections``             sorted set  those that hold something
``specifications``          hash        id and version: the registration
``registered``, ``latest``  list, hash  id and version in order; the last one of an id
==========================  ==========  ===============================================================================

Every sorted set has one score, so that Redis keeps it in the order of its members' bytes.
Redis does not undo what a script has done before an error: a caller's steps are looked at as a whole before the first of them
is written, and what is written then cannot be refused.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

FORMAT: Final = 1
"""The number of the layout."""

KEPT: Final = 24 * 60 * 60
"""Seconds for which a writer's last group is known."""


@attrs.frozen
class Script:
    """A script and the name that the server has for it."""

    text: str
    sha: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Name it as ``SCRIPT LOAD`` does."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


_ITEMS: Final = """
local root = KEYS[1]
local function lists(member)
  local value = redis.call('HGET', root .. 'items', member)
  return value and cmsgpack.unpack(string.sub(value, 5, 4 + struct.unpack('>I4', value))) or {}
end
local function row(member)
  local value = redis.call('HGET', root .. 'items', member)
  return string.sub(value, 5 + struct.unpack('>I4', value))
end
local function outside(member)
  for _, name in ipairs(lists(member)) do redis.call('ZREM', root .. name, member) end
end
local function items(prefix)
  return redis.call('ZRANGEBYLEX', root .. 'i', '[' .. prefix, '(' .. prefix .. '\\255')
end
local function aside(prefix)
  for _, member in ipairs(items(prefix)) do outside(member) end
end
"""

COMMIT: Final = Script(
    f"local FORMAT, KEPT = '{FORMAT}', '{KEPT}'"
    + _ITEMS
    + """
-- The writer, the number of its group, how many callers; then of each caller how long it is, and its steps.
-- A step: its length, how many documents, 1 where it has a case and 2 where it has a registration; the documents of
-- 6 arguments each, those first that are held; the case, or the registration: id and version as one name, the id, the text.
local writer, number, callers = root .. 'w:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local told = redis.call('GET', writer)
if told then
  local last = cmsgpack.unpack(told)
  if last[1] == number then return last[2] end
  if last[1] > number then return redis.error_reply('KNHKLATE this writer has gone on') end
end

local known, cases, papers = {}, {}, {}

local function registered(spec)
  if known[spec] == nil then known[spec] = redis.call('HEXISTS', root .. 'specifications', spec) == 1 end
  return known[spec]
end

local function case(id)
  local found = cases[id]
  if found == nil then
    local v = redis.call('HMGET', root .. 'c:' .. id, 'v', 'q', 's', 'p', 'd', 'r', 'k')
    found = v[1] and {v = v[1], q = v[2], s = v[3], p = v[4], d = v[5], r = v[6], k = v[7]} or false
    cases[id] = found
  end
  return found
end

local NONE = string.rep('\\0', 8)

local function paper(collection, key)
  local name = #collection .. ':' .. collection .. key
  local found = papers[name]
  if found == nil then
    local value = redis.call('HGET', root .. 'd:' .. collection, key)
    found = {v = NONE, d = ''}
    if value then
      found.v = string.sub(value, 1, 8)
      if string.byte(value, 9) == 1 then found.d = string.sub(value, 10, 17) end
    end
    papers[name] = found
  end
  return found, name
end

local function refusal(from, to)
  local seen, keys, written = {}, {}, {}
  while from < to do
    local length, count = tonumber(ARGV[from]), tonumber(ARGV[from + 1])
    local d, c = from + 3, from + 3 + 6 * count
    while d < c and ARGV[d] == 'h' do
      local found, name = paper(ARGV[d + 1], ARGV[d + 2])
      if (written[name] or found.v) ~= ARGV[d + 3] then return {'held', ARGV[d + 1], ARGV[d + 2], ARGV[d + 3]} end
      d = d + 6
    end
    if ARGV[from + 2] == '2' then
      local stored = redis.call('HGET', root .. 'specifications', ARGV[c])
      if stored then return {'registered', stored} end
    elseif ARGV[from + 2] == '1' then
      local id, expected = ARGV[c], ARGV[c + 1]
      if not registered(ARGV[c + 3]) then return {'specification', ARGV[c + 4], ARGV[c + 5]} end
      if ARGV[c + 14] == '1' then
        local key = ARGV[c + 15]
        if keys[key] or redis.call('HEXISTS', root .. 'keys', key) == 1 then return {'key', key} end
        keys[key] = true
      end
      local version, reason = '0', ''
      if seen[id] then
        version, reason = seen[id][1], seen[id][2]
      elseif case(id) then
        version, reason = case(id).v, case(id).q
      end
      if version == '0' and expected ~= '0' then return {'unknown', id} end
      if reason ~= '' then return {'aside', id, reason} end
      if version ~= expected then return {'case', id, version, expected} end
      seen[id] = {ARGV[c + 2], ARGV[c + 10]}
    end
    while d < c do
      local found, name = paper(ARGV[d + 1], ARGV[d + 2])
      if (written[name] or found.v) ~= ARGV[d + 3] then return {'document', ARGV[d + 1], ARGV[d + 2], ARGV[d + 3]} end
      if ARGV[d] == 'w' then written[name] = string.sub(ARGV[d + 4], 1, 8) end
      if ARGV[d] == 'r' then written[name] = NONE end
      d = d + 6
    end
    from = from + length
  end
end

local function move(list, before, after)
  if before ~= after then
    if before ~= '' then redis.call('ZREM', root .. list, before) end
    if after ~= '' then redis.call('ZADD', root .. list, 0, after) end
  end
end

local function listed(id, old, new)
  if not old then redis.call('ZADD', root .. 'ids', 0, id) end
  if not old or old.s ~= new.s or old.p ~= new.p then
    if old then
      redis.call('ZREM', root .. 'ids:p:' .. old.p, id)
      redis.call('ZREM', root .. 'ids:s:' .. old.s, id)
      redis.call('ZREM', root .. 'ids:b:' .. #old.p .. ':' .. old.p .. old.s, id)
    end
    redis.call('ZADD', root .. 'ids:p:' .. new.p, 0, id)
    redis.call('ZADD', root .. 'ids:s:' .. new.s, 0, id)
    redis.call('ZADD', root .. 'ids:b:' .. #new.p .. ':' .. new.p .. new.s, 0, id)
  end
  move('due', old and old.k == '1' and old.d ~= '' and old.d .. id or '', new.k == '1' and new.d ~= '' and new.d .. id or '')
  -- The empty id is an id as well.
  local before, after = old and old.k == '1' and old.r == '1', new.k == '1' and new.r == '1'
  if before and not after then redis.call('ZREM', root .. 'runnable', id) end
  if after and not before then redis.call('ZADD', root .. 'runnable', 0, id) end
end

local function put(member, value, names, visible)
  local packed = cmsgpack.pack(names)
  value = struct.pack('>I4', #packed) .. packed .. value
  if redis.call('HSETNX', root .. 'items', member, value) == 0 then
    outside(member)
    redis.call('HSET', root .. 'items', member, value)
  else
    redis.call('ZADD', root .. 'i', 0, member)
  end
  if visible then
    for _, name in ipairs(names) do redis.call('ZADD', root .. name, 0, member) end
  end
end

local function step(c)
  local id, old, prefix = ARGV[c], case(ARGV[c]), ARGV[c + 17]
  local new = {v = ARGV[c + 2], p = ARGV[c + 4], s = ARGV[c + 6], d = ARGV[c + 7], r = ARGV[c + 8], k = ARGV[c + 9],
               q = ARGV[c + 10]}
  redis.call('HSET', root .. 'c:' .. id, 'v', new.v, 'p', new.p, 'w', ARGV[c + 5], 's', new.s, 'd', new.d, 'r', new.r,
             'k', new.k, 'q', new.q)
  redis.call('RPUSH', root .. 'j:' .. id, ARGV[c + 11])
  if ARGV[c + 12] == '1' then redis.call('SET', root .. 'x:' .. id, struct.pack('>I8', tonumber(new.v)) .. ARGV[c + 13]) end
  if ARGV[c + 14] == '1' then
    redis.call('HSET', root .. 'keys', ARGV[c + 15], ARGV[c + 16])
    redis.call('ZADD', root .. 'keyed', 0, ARGV[c + 15])
  end
  listed(id, old, new)
  cases[id] = new
  local closed, items, p = tonumber(ARGV[c + 18]), tonumber(ARGV[c + 19]), c + 20
  local last = p + closed
  -- The items of a step come before what it closes.
  p = last
  for _ = 1, items do
    local count, names = tonumber(ARGV[p + 2]), {}
    for each = 1, count do names[each] = ARGV[p + 2 + each] end
    put(prefix .. ARGV[p], ARGV[p + 1], names, new.q == '')
    p = p + 3 + count
  end
  for each = last - closed, last - 1 do
    local member = prefix .. ARGV[each]
    outside(member)
    if redis.call('HDEL', root .. 'items', member) == 1 then redis.call('ZREM', root .. 'i', member) end
  end
  if new.q ~= '' then aside(prefix) end
end

local function register(c)
  redis.call('HSET', root .. 'specifications', ARGV[c], ARGV[c + 2])
  redis.call('RPUSH', root .. 'registered', ARGV[c])
  redis.call('HSET', root .. 'latest', ARGV[c + 1], ARGV[c])
  known[ARGV[c]] = true
end

local function file(d)
  local collection, key, value = ARGV[d + 1], ARGV[d + 2], ARGV[d + 4]
  local found, name = paper(collection, key)
  local before = found.d ~= '' and found.d .. key or ''
  if ARGV[d] == 'w' then
    redis.call('HSET', root .. 'd:' .. collection, key, value)
    if found.v == NONE then
      redis.call('ZADD', root .. 'dk:' .. collection, 0, key)
      redis.call('ZADD', root .. 'collections', 0, collection)
    end
    move('dd:' .. collection, before, ARGV[d + 5] ~= '' and ARGV[d + 5] .. key or '')
    papers[name] = {v = string.sub(value, 1, 8), d = ARGV[d + 5]}
  elseif ARGV[d] == 'r' then
    redis.call('HDEL', root .. 'd:' .. collection, key)
    redis.call('ZREM', root .. 'dk:' .. collection, key)
    if redis.call('EXISTS', root .. 'dk:' .. collection) == 0 then redis.call('ZREM', root .. 'collections', collection) end
    move('dd:' .. collection, before, '')
    papers[name] = {v = NONE, d = ''}
  end
end

local outcomes, at = {}, 4
for caller = 1, callers do
  local from, to = at + 1, at + 1 + tonumber(ARGV[at])
  at = to
  local refused = refusal(from, to)
  outcomes[caller] = refused or 0
  while not refused and from < to do
    local length, count = tonumber(ARGV[from]), tonumber(ARGV[from + 1])
    if ARGV[from + 2] == '1' then step(from + 3 + 6 * count) end
    if ARGV[from + 2] == '2' then register(from + 3 + 6 * count) end
    for each = 0, count - 1 do file(from + 3 + 6 * each) end
    from = from + length
  end
end
if not told then redis.call('SETNX', root .. 'format', FORMAT) end
redis.call('SET', writer, cmsgpack.pack({number, outcomes}), 'EX', KEPT)
return outcomes
"""
)

QUARANTINE: Final = Script(
    _ITEMS
    + """
-- The case, the reason, the beginning of its items' names.
local id = ARGV[1]
local v = redis.call('HMGET', root .. 'c:' .. id, 'v', 'q', 'd')
if not v[1] then return 0 end
if v[2] == '' then
  redis.call('HSET', root .. 'c:' .. id, 'q', ARGV[2], 'k', '')
  if v[3] ~= '' then redis.call('ZREM', root .. 'due', v[3] .. id) end
  redis.call('ZREM', root .. 'runnable', id)
  aside(ARGV[3])
end
return 1
"""
)

LATEST: Final = Script("""
local name = redis.call('HGET', KEYS[1] .. 'latest', ARGV[1])
return name and redis.call('HGET', KEYS[1] .. 'specifications', name)
""")

REGISTRATIONS: Final = Script("""
local found = {}
for at, name in ipairs(redis.call('LRANGE', KEYS[1] .. 'registered', 0, -1)) do
  found[at] = redis.call('HGET', KEYS[1] .. 'specifications', name)
end
return found
""")

_HEADER: Final = "'v', 'p', 'w', 's', 'd', 'r', 'q'"
HEADER: Final = ("v", "p", "w", "s", "d", "r", "q")
"""The fields of a case's hash that make its header."""

LOAD: Final = Script(f"""
local header = redis.call('HMGET', KEYS[1] .. 'c:' .. ARGV[1], {_HEADER})
local snapshot, since = redis.call('GET', KEYS[1] .. 'x:' .. ARGV[1]), 0
if snapshot then since = struct.unpack('>I8', snapshot) end
return {{header, snapshot, redis.call('LRANGE', KEYS[1] .. 'j:' .. ARGV[1], since, -1)}}
""")

WHOLE: Final = Script(
    _ITEMS
    + f"""
-- The case, the beginning of its items' names.
local found = {{}}
for at, member in ipairs(items(ARGV[2])) do
  found[2 * at - 1] = member
  found[2 * at] = row(member)
end
return {{redis.call('HMGET', root .. 'c:' .. ARGV[1], {_HEADER}), redis.call('GET', root .. 'x:' .. ARGV[1]),
        redis.call('LRANGE', root .. 'j:' .. ARGV[1], 0, -1), found}}
"""
)

KEYS_BEHIND: Final = Script("""
-- Behind which key, how many.
local found = {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[1] .. 'keyed', '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('HGET', KEYS[1] .. 'keys', key)
end
return found
""")

CASES: Final = Script(f"""
-- The list, behind which id, how many.
local found = {{}}
for at, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[1] .. ARGV[1], '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[3])) do
  found[at] = {{id, redis.call('HMGET', KEYS[1] .. 'c:' .. id, {_HEADER})}}
end
return found
""")

ITEMS: Final = Script(
    _ITEMS
    + """
-- Lower and upper bound, how many, groups of lists: how many lists, their names; an item is wanted that is in one of each group.
-- Returned are, of each list of the smallest group, as many as are wanted: name and row; the caller merges them.
-- Without a group all are wanted but for those of cases set aside, which are not even in the list of their state.
local limit = tonumber(ARGV[3])
local chunk = math.max(limit, 100)
local groups, smallest, fewest, at = {}, nil, nil, 4
while ARGV[at] do
  local group, size = {}, 0
  for each = 1, tonumber(ARGV[at]) do
    group[each] = root .. ARGV[at + each]
    size = size + redis.call('ZCARD', group[each])
  end
  groups[#groups + 1] = group
  if not fewest or size < fewest then smallest, fewest = #groups, size end
  at = at + 1 + #group
end
local function wanted(member)
  if not smallest then return redis.call('ZSCORE', root .. lists(member)[1], member) end
  for number, group in ipairs(groups) do
    if number ~= smallest then
      local within = false
      for _, list in ipairs(group) do within = within or redis.call('ZSCORE', list, member) end
      if not within then return false end
    end
  end
  return true
end
local found, seen = {}, {}
for _, list in ipairs(groups[smallest] or {root .. 'i'}) do
  local from, count, more = ARGV[1], 0, true
  while more and count < limit do
    local page = redis.call('ZRANGEBYLEX', list, from, ARGV[2], 'LIMIT', 0, chunk)
    more = #page == chunk
    for _, member in ipairs(page) do
      from = '(' .. member
      if count < limit and wanted(member) then
        count = count + 1
        if not seen[member] then
          seen[member] = true
          found[#found + 1] = member
          found[#found + 1] = row(member)
        end
      end
    end
  end
end
return found
"""
)

DOCUMENTS: Final = Script("""
-- Collection, which list, lower and upper bound, how many, how much of a member is no key.
local found = {}
local page = redis.call('ZRANGEBYLEX', KEYS[1] .. ARGV[2] .. ARGV[1], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
for _, member in ipairs(page) do
  local key = string.sub(member, 1 + tonumber(ARGV[6]))
  found[#found + 1] = key
  found[#found + 1] = redis.call('HGET', KEYS[1] .. 'd:' .. ARGV[1], key)
end
return found
""")
