"""
What the Redis store does inside the server: each script is one step of the server, which nothing comes between.

All keys of a store begin with the root, ``{namespace}:``, so that a cluster keeps them in one slot:

==========================  ==========  ===============================================================================
``format``                  string      the number of this layout
``w:`` writer               string      its last group and, where somebody was refused, what the callers were told; for a day
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
``i:s:`` state              sorted set  its items, but for those of cases set aside; likewise ``i:b:`` by (but for nobody),
                                        ``i:t:`` topic, ``i:a:`` audience
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

FORMAT: Final = 2
"""
The number of the layout.

In layout 1 the items of nobody were in ``i:b:`` as well: those that are left there go when they change.
"""


@attrs.frozen
class Script:
    """A script and the name that the server has for it."""

    text: str
    sha: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Name it as ``SCRIPT LOAD`` does."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


ITEMS_LUA: Final = """
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

QUARANTINE: Final = Script(
    ITEMS_LUA
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
    ITEMS_LUA
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
    ITEMS_LUA
    + """
-- Lower and upper bound, how many, whether only those of nobody, groups of lists: how many lists, their names; an item is
-- wanted that is in one of each group.
-- Returned are, of each list of the smallest group, as many as are wanted: name and row; the caller merges them.
-- Without a group all are wanted but for those of cases set aside, which are not even in the list of their state.
local limit = tonumber(ARGV[3])
local chunk = math.max(limit, 100)
local groups, smallest, fewest, at = {}, nil, nil, 5
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
local function somebodys(member)
  for _, list in ipairs(lists(member)) do
    if string.find(list, '^i:b:.') then return true end
  end
end
local function wanted(member)
  if ARGV[4] == '1' and somebodys(member) then return false end
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
