"""
How an older layout of the store on Redis becomes this one: in pieces, each of which is one step of the server.

The first piece says that the layout is this one, which keeps older versions from connecting, and takes the registrations from those
that are connected; each takes some cases from them, so that nothing which they still write can come in between.
What a piece has done stays, and whoever opens the store goes on with the next.
"""

from __future__ import annotations

from typing import Final

from knhk.stores._redis_link import Link
from knhk.stores._redis_scripts import CASE_LUA, FORMAT, Script

PIECE: Final = 1000
"""Cases and items that one piece moves; it moves the last case whole."""

MOVE: Final = Script(
    f"local FORMAT = {FORMAT}\n"
    + CASE_LUA
    + """
-- How many cases and items at most, but one case in any case.
-- Returned is whether there is more to do.
local left = tonumber(ARGV[1])
local format, moving = redis.call('GET', root .. 'format'), redis.call('GET', root .. 'moving')
if not format or (tonumber(format) >= FORMAT and not moving) then return 0 end
if not moving then
  moving = '-'
  redis.call('SET', root .. 'format', FORMAT)
  redis.call('SET', root .. 'moving', moving)
  if redis.call('EXISTS', root .. 'specifications') == 1 then
    redis.call('RENAME', root .. 'specifications', root .. 'registrations')
  end
end

local CHUNK = 1000

-- Move some items of a case, and note how many of them are in which list.
local function move_items(key, prefix, members, counts)
  local values, found, lists = redis.call('HMGET', root .. 'items', unpack(members)), {}, {}
  for at, member in ipairs(members) do
    found[2 * at - 1] = '.' .. string.sub(member, #prefix + 1)
    found[2 * at] = values[at]
    for _, list in ipairs(cmsgpack.unpack(string.sub(values[at], 5, 4 + struct.unpack('>I4', values[at])))) do
      lists[list] = lists[list] or {}
      lists[list][#lists[list] + 1] = member
      counts[list] = (counts[list] or 0) + 1
    end
  end
  counts.i = (counts.i or 0) + #members
  redis.call('HSET', key, unpack(found))
  redis.call('HDEL', root .. 'items', unpack(members))
  redis.call('ZREM', root .. 'i', unpack(members))
  for list, those in pairs(lists) do redis.call('ZREM', root .. list, unpack(those)) end
end

-- Move a case, and return how many items it has.
local function move(id)
  local old, key, prefix, counts = root .. 'c:' .. id, root .. 'h:' .. id, text_key(id), {}
  if redis.call('EXISTS', old) == 0 then return 0 end
  redis.call('RENAME', old, key)
  local to = '(' .. prefix .. string.rep('\\255', 9)
  repeat
    local members = redis.call('ZRANGEBYLEX', root .. 'i', '[' .. prefix, to, 'LIMIT', 0, CHUNK)
    if #members > 0 then move_items(key, prefix, members, counts) end
  until #members < CHUNK
  local q, s, p, w, d, r, k = unpack(redis.call('HMGET', key, 'q', 's', 'p', 'w', 'd', 'r', 'k'))
  redis.call('HSET', key, 'h', struct.pack(HEAD, #q, q, #s, s, #p, p, #w, w, #d, d, #r, r, #k, k))
  redis.call('HDEL', key, 'q', 's', 'p', 'w', 'd', 'r', 'k')
  if q == '' then
    for list, count in pairs(counts) do
      redis.call('HSET', key, '#' .. list, count)
      redis.call('ZADD', root .. 'l:' .. list, '0', id)
    end
  end
  return counts.i or 0
end

while left > 0 do
  local page = redis.call('ZRANGEBYLEX', root .. 'ids', moving, '+', 'LIMIT', 0, 100)
  if #page == 0 then
    redis.call('DEL', root .. 'moving')
    return 0
  end
  for _, id in ipairs(page) do
    if left > 0 then
      left = left - 1 - move(id)
      moving = '(' .. id
    end
  end
end
redis.call('SET', root .. 'moving', moving)
return 1
"""
)


def bring_up_to_date(link: Link, piece: int = PIECE) -> None:
    """
    Make what a namespace has the present layout; several may do it at the same time.

    Raises:
        StoreError: the server does not answer, or takes no writes; what is done stays done.
    """
    while link.run(MOVE, piece):
        pass
