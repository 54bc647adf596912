"""
What the Redis store does inside the server: each script is one step of the server, which nothing comes between.

All keys of a store begin with the root, ``{namespace}:``, so that a cluster keeps them in one slot:

==========================  ==========  ===============================================================================
``format``                  string      the number of this layout
``moving``                  string      while an older layout becomes this one: from behind which case on (`MOVE`)
``w:`` writer               string      its last group and, where somebody was refused, what the callers were told; for a day
``h:`` case                 hash        ``v`` version; ``h`` head (`knhk.stores._redis_words`);
                                        ``.`` number (8 bytes): an item, which is the names of the lists that it is in, its row;
                                        ``#`` list: how many of its items are in it, but for a case set aside
``j:`` case                 list        the batches
``x:`` case                 string      the version of the snapshot (8 bytes), the snapshot
``ids``                     sorted set  all cases
``ids:p:`` specification    sorted set  its cases; likewise ``ids:s:`` state, ``ids:b:`` both
``due``, ``runnable``       sorted set  when (8 bytes) and case; cases
``keys``                    hash        idempotency key: length of the case id, ``:``, case id, digest
``keyed``                   sorted set  idempotency keys
``l:i``                     sorted set  the list ``i``: cases with an item, but for those set aside
``l:i:s:`` state            sorted set  cases with an item in it, likewise; ``l:i:b:`` by (but for nobody), ``l:i:t:`` topic,
                                        ``l:i:a:`` audience
``d:`` collection           hash        key: version (8 bytes), whether due, when (8 bytes), value
``dk:``, ``dd:`` collection sorted set  keys; when (8 bytes) and key
``collections``             sorted set  those that hold something
``registrations``           hash        id and version: the registration
``registered``, ``latest``  list, hash  id and version in order; the last one of an id
==========================  ==========  ===============================================================================

A list of items has cases, so that a step after which a case has as many items in it as before does not touch it.
Every sorted set has one score, so that Redis keeps it in the order of its members' bytes.
Redis does not undo what a script has done before an error: a caller's steps are looked at as a whole before the first of them
is written, and what is written then cannot be refused.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

FORMAT: Final = 3
"""
The number of the layout.

In layout 2 the items were in a hash ``items`` and their lists had items, under the names of now without ``l:``; in layout 1 those of
nobody were in ``i:b:`` as well.
Both had cases as ``c:`` and registrations as ``specifications``: whoever still writes as they say finds neither and is refused.
"""


@attrs.frozen
class Script:
    """A script and the name that the server has for it."""

    text: str
    sha: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Name it as ``SCRIPT LOAD`` does."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


HEAD: Final = ">I4c0I4c0I4c0I4c0I4c0I4c0I4c0"
"""A head: why the case is set aside, state, specification and its version, due, runnable, and whether it works and is not set aside."""

CASE_LUA: Final = (
    f"local HEAD = '{HEAD}'"
    """
local root = KEYS[1]
-- What the names of a case's items begin with.
local function text_key(id)
  if string.find(id, '\\0', 1, true) then id = string.gsub(id, '%z', '\\0\\255') end
  return id .. '\\0\\1'
end
-- Take a case out of the lists of its items.
local function aside(id)
  local key = root .. 'h:' .. id
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.byte(field) == 35 then
      redis.call('ZREM', root .. 'l:' .. string.sub(field, 2), id)
      redis.call('HDEL', key, field)
    end
  end
end
"""
)

QUARANTINE: Final = Script(
    CASE_LUA
    + """
-- The case, the reason.
local id = ARGV[1]
local packed = redis.call('HGET', root .. 'h:' .. id, 'h')
if not packed then return 0 end
local aside_for, state, specification, specified, due, runnable = struct.unpack(HEAD, packed)
if aside_for == '' then
  redis.call('HSET', root .. 'h:' .. id, 'h',
             struct.pack(HEAD, #ARGV[2], ARGV[2], #state, state, #specification, specification,
                         #specified, specified, #due, due, #runnable, runnable, 0, ''))
  if due ~= '' then redis.call('ZREM', root .. 'due', due .. id) end
  redis.call('ZREM', root .. 'runnable', id)
  aside(id)
end
return 1
"""
)

LATEST: Final = Script("""
local name = redis.call('HGET', KEYS[1] .. 'latest', ARGV[1])
return name and redis.call('HGET', KEYS[1] .. 'registrations', name)
""")

REGISTRATIONS: Final = Script("""
local found = {}
for at, name in ipairs(redis.call('LRANGE', KEYS[1] .. 'registered', 0, -1)) do
  found[at] = redis.call('HGET', KEYS[1] .. 'registrations', name)
end
return found
""")

_HEADER: Final = "'v', 'h'"
HEADER: Final = ("v", "h")
"""The fields of a case's hash that make its header."""

LOAD: Final = Script(f"""
local header = redis.call('HMGET', KEYS[1] .. 'h:' .. ARGV[1], {_HEADER})
local snapshot, since = redis.call('GET', KEYS[1] .. 'x:' .. ARGV[1]), 0
if snapshot then since = struct.unpack('>I8', snapshot) end
return {{header, snapshot, redis.call('LRANGE', KEYS[1] .. 'j:' .. ARGV[1], since, -1)}}
""")

WHOLE: Final = Script(
    CASE_LUA
    + f"""
-- The case.
local id = ARGV[1]
local key, prefix, found = root .. 'h:' .. id, text_key(id), {{}}
local all = redis.call('HGETALL', key)
for at = 1, #all, 2 do
  if string.byte(all[at]) == 46 then
    found[#found + 1] = prefix .. string.sub(all[at], 2)
    found[#found + 1] = string.sub(all[at + 1], 5 + struct.unpack('>I4', all[at + 1]))
  end
end
return {{redis.call('HMGET', key, {_HEADER}), redis.call('GET', root .. 'x:' .. id),
        redis.call('LRANGE', root .. 'j:' .. id, 0, -1), found}}
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
  found[at] = {{id, redis.call('HMGET', KEYS[1] .. 'h:' .. id, {_HEADER})}}
end
return found
""")

ITEMS: Final = Script(
    CASE_LUA
    + """
-- Whether one case is asked for, which, or else from which on; behind which number of that, or ''; how many; whether only those
-- of nobody; groups of lists: how many lists, their names; an item is wanted that is in one of each group.
-- Returned are, of each list of the smallest group, of as many cases as have what is wanted: name and row; the caller merges them.
local first, behind, limit, nobodys = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local groups, smallest, fewest, at = {}, nil, nil, 6
while ARGV[at] do
  local group, size = {}, 0
  for each = 1, tonumber(ARGV[at]) do
    group[each] = ARGV[at + each]
    size = size + redis.call('ZCARD', root .. 'l:' .. group[each])
  end
  groups[#groups + 1] = group
  if not fewest or size < fewest then smallest, fewest = #groups, size end
  at = at + 1 + #group
end

local function within(names, group)
  for _, list in ipairs(group) do
    if names[list] then return true end
  end
end

-- Whether items in such lists are wanted; those of a case are alike, and so are those of many.
local answers = {}
local function wanted(value)
  local packed = string.sub(value, 5, 4 + struct.unpack('>I4', value))
  local answer = answers[packed]
  if answer == nil then
    local names = {}
    answer = true
    for _, list in ipairs(cmsgpack.unpack(packed)) do
      names[list] = true
      if nobodys and string.find(list, '^i:b:.') then answer = false end
    end
    for _, group in ipairs(groups) do answer = answer and within(names, group) or false end
    answers[packed] = answer
  end
  return answer
end

-- Put the names of items in the order of their numbers, not as texts, which are compared by the language of the server.
local function less(one, other)
  local high, low = struct.unpack('>I4I4', one, 2)
  local higher, lower = struct.unpack('>I4I4', other, 2)
  if high ~= higher then return high < higher end
  return low < lower
end
local function sort(fields)
  local numbers, names = {}, {}
  for at, field in ipairs(fields) do
    local high, low = struct.unpack('>I4I4', field, 2)
    local number = (high - 2 ^ 31) * 2 ^ 32 + low
    -- Beyond this two numbers may be one here.
    if math.abs(number) >= 2 ^ 53 then return table.sort(fields, less) end
    numbers[at], names[number] = number, field
  end
  table.sort(numbers)
  for at, number in ipairs(numbers) do fields[at] = names[number] end
end

local function may_have(id)
  for number, group in ipairs(groups) do
    if number ~= smallest then
      local has = false
      for _, list in ipairs(group) do has = has or redis.call('ZSCORE', root .. 'l:' .. list, id) end
      if not has then return false end
    end
  end
  return true
end

local found, counts = {}, {}
local from = behind ~= '' and '.' .. behind
-- Add what is wanted of a case, once, and return how much that is.
local function add(id)
  if counts[id] then return counts[id] end
  counts[id] = 0
  if not may_have(id) then return 0 end
  local all, open, rows = redis.call('HGETALL', root .. 'h:' .. id), {}, {}
  for each = 1, #all, 2 do
    local field, value = all[each], all[each + 1]
    if field == 'h' and struct.unpack('>I4', value) > 0 then return 0 end
    if string.byte(field) == 46 and wanted(value) and (not from or id ~= first or less(from, field)) then
      open[#open + 1] = field
      rows[field] = value
    end
  end
  if #open > limit then sort(open) end
  local prefix = text_key(id)
  for each = 1, math.min(#open, limit) do
    local value = rows[open[each]]
    found[#found + 1] = prefix .. string.sub(open[each], 2)
    found[#found + 1] = string.sub(value, 5 + struct.unpack('>I4', value))
  end
  counts[id] = math.min(#open, limit)
  return counts[id]
end

if ARGV[1] == '1' then
  add(first)
  return found
end
local chunk = math.min(math.max(limit, 1), 100)
for _, list in ipairs(groups[smallest] or {'i'}) do
  local lower, count, more = '[' .. first, 0, true
  while more and count < limit do
    local page = redis.call('ZRANGEBYLEX', root .. 'l:' .. list, lower, '+', 'LIMIT', 0, chunk)
    more = #page == chunk
    for _, id in ipairs(page) do
      lower = '(' .. id
      if count < limit then count = count + add(id) end
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
