"""What the Redis store does inside the server when callers commit: one script, which is one step of the server for all of them."""

from __future__ import annotations

from typing import Final

from knhk.stores._redis_scripts import CASE_LUA, FORMAT, Script

KEPT: Final = 24 * 60 * 60
"""Seconds for which a writer's last group is known."""

_CONSTANTS: Final = f"local FORMAT, KEPT = {FORMAT}, '{KEPT}'\n"

_GROUP: Final = """
-- The writer, the number of its group, how many callers; then of each caller how long it is, and its steps.
-- A step: its form (its length; 1 where it has a case and 2 where it has a registration; whether there is a snapshot, a key;
-- how many documents and items); the documents of 6 arguments each, those first that are held; then the registration: id and
-- version as one name, the id, the text; or of the case id, version, head, numbers of items that it closes, batch; the
-- snapshot; the key and whose it is; of each item number and value.
-- Returned is 0, or where somebody is refused of each caller 0 or why.
local number, callers = tonumber(ARGV[2]), tonumber(ARGV[3])
local writer = root .. 'w:' .. ARGV[1]
local told, format = redis.call('GET', writer), true
if told then
  local last, outcomes = tonumber(told), 0
  if not last then last, outcomes = unpack(cmsgpack.unpack(told)) end
  if last == number then return outcomes end
  if last > number then return redis.error_reply('KNHKLATE this writer has gone on') end
else
  format = redis.call('GET', root .. 'format')
  if format and tonumber(format) < FORMAT then
    return redis.error_reply('KNHKLAYOUT an older version of KNHK writes to this namespace: stop it, and open the store again')
  end
end
"""

_ITEMS: Final = """
local CHUNK = 1000

local function many(command, key, arguments)
  for from = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, from, math.min(from + CHUNK - 1, #arguments)))
  end
end

local function read(key, fields)
  if #fields <= CHUNK then return redis.call('HMGET', key, unpack(fields)) end
  local found = {}
  for from = 1, #fields, CHUNK do
    local page = redis.call('HMGET', key, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
    for at = 1, #page do found[from + at - 1] = page[at] end
  end
  return found
end

-- Add what a case's hash calls the items that a step opens or changes, whose numbers are every second argument, and those that
-- it closes.
local function add_fields(fields, at, items, closed)
  for each = at, at + 2 * items - 2, 2 do fields[#fields + 1] = '.' .. ARGV[each] end
  for each = 1, #closed, 8 do fields[#fields + 1] = '.' .. string.sub(closed, each, each + 7) end
end

-- A case has more or fewer items in lists than before.
local function count_lists(id, key, sums)
  local changes = {}
  for lists, by in pairs(sums) do
    if by ~= 0 then
      for _, list in ipairs(cmsgpack.unpack(string.sub(lists, 5))) do changes[list] = (changes[list] or 0) + by end
      changes.i = (changes.i or 0) + by
    end
  end
  for list, by in pairs(changes) do
    if by ~= 0 then
      local now = redis.call('HINCRBY', key, '#' .. list, by)
      if now == 0 then
        redis.call('HDEL', key, '#' .. list)
        redis.call('ZREM', root .. 'l:' .. list, id)
      elseif now == by then
        redis.call('ZADD', root .. 'l:' .. list, '0', id)
      end
    end
  end
end

-- Write a step's items and what else changes in the case's hash; the items are the fields behind so many, with what is stored of
-- them, first those whose values are the arguments behind their numbers.
local function write(id, key, changes, fields, behind, stored, at, items)
  local gone, now, sums = {}, {}, {}
  for each = behind + 1, #fields do
    local field, after = fields[each], false
    local before = now[field]
    if before == nil then before = stored[each] end
    if each <= behind + items then
      after = ARGV[at + 2 * (each - behind) - 1]
      changes[#changes + 1] = field
      changes[#changes + 1] = after
      local lists = string.sub(after, 1, 4 + struct.unpack('>I4', after))
      sums[lists] = (sums[lists] or 0) + 1
    elseif before then
      gone[#gone + 1] = field
    end
    if before then
      local lists = string.sub(before, 1, 4 + struct.unpack('>I4', before))
      sums[lists] = (sums[lists] or 0) - 1
    end
    now[field] = after
  end
  many('HSET', key, changes)
  if #gone > 0 then many('HDEL', key, gone) end
  count_lists(id, key, sums)
end
"""

# Most steps are this, which needs nothing of what others do.
_PLAIN: Final = """
-- Write what a caller has where that is one step after which nothing is changed but its case's version, batches, snapshot and
-- items, under documents that are held; or write nothing.
local function plain(from, to)
  local length, kind, snapshot, keyed, count, items = struct.unpack('>I4BBBI4I4', ARGV[from])
  if kind ~= 1 or keyed > 0 or from + length ~= to then return false end
  local c = from + 1 + 6 * count
  local id, version, head, closed = ARGV[c], ARGV[c + 1], ARGV[c + 2], ARGV[c + 3]
  local key, at, fields = root .. 'h:' .. id, c + 5 + snapshot, {'h', 'v'}
  add_fields(fields, at, items, closed)
  local old = read(key, fields)
  if old[1] ~= head or struct.unpack('>I4', head) > 0 or old[2] + 1 ~= tonumber(version) then return false end
  for d = from + 1, c - 6, 6 do
    local found = ARGV[d] == 'h' and redis.call('HGET', root .. 'd:' .. ARGV[d + 1], ARGV[d + 2])
    if not found or string.sub(found, 1, 8) ~= ARGV[d + 3] then return false end
  end
  if #fields == 2 then
    redis.call('HSET', key, 'v', version)
  else
    write(id, key, {'v', version}, fields, 2, old, at, items)
  end
  redis.call('RPUSH', root .. 'j:' .. id, ARGV[c + 4])
  if snapshot == 1 then redis.call('SET', root .. 'x:' .. id, struct.pack('>I8', tonumber(version)) .. ARGV[c + 5]) end
  return true
end
"""

_ANY: Final = """
-- Return what writes whatever a caller has, or nothing and returns why.
local function any_kind()
-- What a head has, and behind it a case that was read.
local QUARANTINED, STATE, SPECIFICATION, SPECIFIED, DUE, RUNNABLE, WORKING, VERSION = 1, 2, 3, 4, 5, 6, 7, 8
local NONE = string.rep('\\0', 8)
local cases, papers

local function case(id)
  local found = cases[id]
  if not found then
    local stored = redis.call('HMGET', root .. 'h:' .. id, 'h', 'v')
    found = stored[1] and {struct.unpack(HEAD, stored[1])} or {}
    found[VERSION], found.head = stored[2], stored[1]
    cases[id] = found
  end
  return found
end

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
    local length, kind, snapshot, keyed, count = struct.unpack('>I4BBBI4', ARGV[from])
    local d, c = from + 1, from + 1 + 6 * count
    while d < c and ARGV[d] == 'h' do
      local found, name = paper(ARGV[d + 1], ARGV[d + 2])
      if (written[name] or found.v) ~= ARGV[d + 3] then return {'held', ARGV[d + 1], ARGV[d + 2], ARGV[d + 3]} end
      d = d + 6
    end
    from = from + length
    if kind == 2 then
      local stored = redis.call('HGET', root .. 'registrations', ARGV[c])
      if stored then return {'registered', stored} end
    elseif kind == 1 then
      local id, version, new = ARGV[c], ARGV[c + 1], {struct.unpack(HEAD, ARGV[c + 2])}
      local old, specification, specified = seen[id] or case(id), new[SPECIFICATION], new[SPECIFIED]
      -- A registration is never removed.
      if (old[SPECIFICATION] ~= specification or old[SPECIFIED] ~= specified)
          and redis.call('HEXISTS', root .. 'registrations', #specification .. ':' .. specification .. specified) == 0 then
        return {'specification', specification, specified}
      end
      if keyed == 1 then
        local key = ARGV[c + 5 + snapshot]
        if keys[key] or redis.call('HEXISTS', root .. 'keys', key) == 1 then return {'key', key} end
        keys[key] = true
      end
      local stored = old[VERSION] or '0'
      if stored == '0' and version ~= '1' then return {'unknown', id} end
      if old[VERSION] and old[QUARANTINED] ~= '' then return {'aside', id, old[QUARANTINED]} end
      if tonumber(stored) + 1 ~= tonumber(version) then return {'case', id, stored, string.format('%.0f', version - 1)} end
      if from < to then seen[id] = {new[QUARANTINED], '', specification, specified, '', '', '', version} end
    end
    while d < c do
      local found, name = paper(ARGV[d + 1], ARGV[d + 2])
      if (written[name] or found.v) ~= ARGV[d + 3] then return {'document', ARGV[d + 1], ARGV[d + 2], ARGV[d + 3]} end
      if ARGV[d] == 'w' then written[name] = string.sub(ARGV[d + 4], 1, 8) end
      if ARGV[d] == 'r' then written[name] = NONE end
      d = d + 6
    end
  end
end

local function move(list, before, after)
  if before ~= after then
    if before ~= '' then redis.call('ZREM', root .. list, before) end
    if after ~= '' then redis.call('ZADD', root .. list, '0', after) end
  end
end

local function within(case, command, ...)
  local state, specification = case[STATE], case[SPECIFICATION]
  redis.call(command, root .. 'ids:p:' .. specification, ...)
  redis.call(command, root .. 'ids:s:' .. state, ...)
  redis.call(command, root .. 'ids:b:' .. #specification .. ':' .. specification .. state, ...)
end

local function due(id, case)
  return case[VERSION] and case[WORKING] == '1' and case[DUE] ~= '' and case[DUE] .. id or ''
end

local function runnable(case)
  return case[VERSION] and case[WORKING] == '1' and case[RUNNABLE] == '1'
end

local function listed(id, old, new)
  if not old[VERSION] then redis.call('ZADD', root .. 'ids', '0', id) end
  if old[STATE] ~= new[STATE] or old[SPECIFICATION] ~= new[SPECIFICATION] then
    if old[VERSION] then within(old, 'ZREM', id) end
    within(new, 'ZADD', '0', id)
  end
  move('due', due(id, old), due(id, new))
  -- The empty id is an id as well.
  local before, after = runnable(old), runnable(new)
  if before and not after then redis.call('ZREM', root .. 'runnable', id) end
  if after and not before then redis.call('ZADD', root .. 'runnable', '0', id) end
end

local function step(c, snapshot, keyed, items)
  local id, version, head, closed = ARGV[c], ARGV[c + 1], ARGV[c + 2], ARGV[c + 3]
  local key, old, at, fields = root .. 'h:' .. id, case(id), c + 5 + snapshot + 2 * keyed, {}
  local new = {struct.unpack(HEAD, head)}
  new[VERSION], new.head = version, head
  add_fields(fields, at, items, closed)
  write(id, key, {'v', version, 'h', head}, fields, 0, #fields > 0 and read(key, fields), at, items)
  cases[id] = new
  if old.head ~= head then listed(id, old, new) end
  redis.call('RPUSH', root .. 'j:' .. id, ARGV[c + 4])
  if snapshot == 1 then redis.call('SET', root .. 'x:' .. id, struct.pack('>I8', tonumber(version)) .. ARGV[c + 5]) end
  if keyed == 1 then
    redis.call('HSET', root .. 'keys', ARGV[at - 2], ARGV[at - 1])
    redis.call('ZADD', root .. 'keyed', '0', ARGV[at - 2])
  end
  if new[QUARANTINED] ~= '' then aside(id) end
end

local function register(c)
  redis.call('HSET', root .. 'registrations', ARGV[c], ARGV[c + 2])
  redis.call('RPUSH', root .. 'registered', ARGV[c])
  redis.call('HSET', root .. 'latest', ARGV[c + 1], ARGV[c])
end

local function file(d)
  local collection, key, value = ARGV[d + 1], ARGV[d + 2], ARGV[d + 4]
  local found, name = paper(collection, key)
  local before = found.d ~= '' and found.d .. key or ''
  if ARGV[d] == 'w' then
    redis.call('HSET', root .. 'd:' .. collection, key, value)
    if found.v == NONE then
      redis.call('ZADD', root .. 'dk:' .. collection, '0', key)
      redis.call('ZADD', root .. 'collections', '0', collection)
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

return function(from, to)
  cases, papers = {}, {}
  local refused = refusal(from, to)
  while not refused and from < to do
    local length, kind, snapshot, keyed, count, items = struct.unpack('>I4BBBI4I4', ARGV[from])
    local c = from + 1 + 6 * count
    if kind == 1 then step(c, snapshot, keyed, items) end
    if kind == 2 then register(c) end
    for d = from + 1, c - 6, 6 do file(d) end
    from = from + length
  end
  return refused
end
end
"""

_EACH: Final = """
local outcomes, at, any = 0, 4, nil
for caller = 1, callers do
  local from, to = at + 1, at + 1 + tonumber(ARGV[at])
  at = to
  if from < to and not plain(from, to) then
    any = any or any_kind()
    local refused = any(from, to)
    if refused then
      if outcomes == 0 then
        outcomes = {}
        for each = 1, callers do outcomes[each] = 0 end
      end
      outcomes[caller] = refused
    end
  end
end
if not format then redis.call('SET', root .. 'format', FORMAT) end
redis.call('SET', writer, outcomes == 0 and ARGV[2] or cmsgpack.pack({number, outcomes}), 'EX', KEPT)
return outcomes
"""

COMMIT: Final = Script(_CONSTANTS + CASE_LUA + _GROUP + _ITEMS + _PLAIN + _ANY + _EACH)
