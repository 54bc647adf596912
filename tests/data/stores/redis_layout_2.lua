local FORMAT, KEPT, HEAD = 2, '86400', '>I4c0I4c0I4c0I4c0I4c0I4c0I4c0'
-- The writer, the number of its group, how many callers; then of each caller how long it is, and its steps.
-- A step: its form (its length; 1 where it has a case and 2 where it has a registration; whether there is a snapshot, a key;
-- how many documents and items); the documents of 6 arguments each, those first that are held; then the registration: id and
-- version as one name, the id, the text; or of the case id, version, head, numbers of items that it closes, batch; the
-- snapshot; the key and whose it is; of each item number and value.
-- Returned is 0, or where somebody is refused of each caller 0 or why.
local root, number, callers = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local writer = root .. 'w:' .. ARGV[1]
local told = redis.call('GET', writer)
if told then
  local last, outcomes = tonumber(told), 0
  if not last then last, outcomes = unpack(cmsgpack.unpack(told)) end
  if last == number then return outcomes end
  if last > number then return redis.error_reply('KNHKLATE this writer has gone on') end
end

-- What the names of a case's items begin with.
local function text_key(id)
  if string.find(id, '\0', 1, true) then id = string.gsub(id, '%z', '\0\255') end
  return id .. '\0\1'
end

-- Write the one step of the one caller where all that changes is its case's version, batches and items: or write nothing.
local function alone()
  local length, kind, snapshot, keyed, count, items = struct.unpack('>I4BBBI4I4', ARGV[5])
  if kind ~= 1 or snapshot + keyed + count > 0 or length ~= tonumber(ARGV[4]) then return false end
  local id, version, closed = ARGV[6], ARGV[7], ARGV[9]
  local q, s, p, w, d, r, k = struct.unpack(HEAD, ARGV[8])
  local old = redis.call('HMGET', root .. 'c:' .. id, 'q', 's', 'p', 'w', 'd', 'r', 'k', 'v')
  if q ~= '' or old[1] ~= q or old[2] ~= s or old[3] ~= p or old[4] ~= w or old[5] ~= d or old[6] ~= r or old[7] ~= k
     or old[8] + 1 ~= tonumber(version) then return false end
  redis.call('HSET', root .. 'c:' .. id, 'v', version)
  redis.call('RPUSH', root .. 'j:' .. id, ARGV[10])
  if items == 0 and closed == '' then return true end
  local rows, all = root .. 'items', root .. 'i'
  local prefix = text_key(id)
  local function in_lists(command, value, ...)
    for _, list in ipairs(cmsgpack.unpack(string.sub(value, 5, 4 + struct.unpack('>I4', value)))) do
      redis.call(command, root .. list, ...)
    end
  end
  for at = 11, 9 + 2 * items, 2 do
    local member, value = prefix .. ARGV[at], ARGV[at + 1]
    if redis.call('HSETNX', rows, member, value) == 1 then
      redis.call('ZADD', all, '0', member)
    else
      in_lists('ZREM', redis.call('HGET', rows, member), member)
      redis.call('HSET', rows, member, value)
    end
    in_lists('ZADD', value, '0', member)
  end
  for at = 1, #closed, 8 do
    local member = prefix .. string.sub(closed, at, at + 7)
    local value = redis.call('HGET', rows, member)
    if value then
      in_lists('ZREM', value, member)
      redis.call('ZREM', all, member)
      redis.call('HDEL', rows, member)
    end
  end
  return true
end
if told and callers == 1 and ARGV[5] and alone() then
  redis.call('SET', writer, ARGV[2], 'EX', KEPT)
  return 0
end

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
  return redis.call('ZRANGEBYLEX', root .. 'i', '[' .. prefix, '(' .. prefix .. '\255')
end
local function aside(prefix)
  for _, member in ipairs(items(prefix)) do outside(member) end
end

-- What a head has, and behind it a case that was read.
local QUARANTINED, STATE, SPECIFICATION, SPECIFIED, DUE, RUNNABLE, WORKING, VERSION = 1, 2, 3, 4, 5, 6, 7, 8
local NONE, CHUNK = string.rep('\0', 8), 1000
local cases, heads, papers = {}, {}, {}
local touched, values = {}, {}

local function head(packed)
  local found = heads[packed]
  if not found then
    found = {struct.unpack(HEAD, packed)}
    heads[packed] = found
  end
  return found
end

local function case(id)
  local found = cases[id]
  if not found then
    found = redis.call('HMGET', root .. 'c:' .. id, 'q', 's', 'p', 'w', 'd', 'r', 'k', 'v')
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
      local stored = redis.call('HGET', root .. 'specifications', ARGV[c])
      if stored then return {'registered', stored} end
    elseif kind == 1 then
      local id, version, new = ARGV[c], ARGV[c + 1], head(ARGV[c + 2])
      local old, specification, specified = seen[id] or case(id), new[SPECIFICATION], new[SPECIFIED]
      -- A registration is never removed.
      if (old[SPECIFICATION] ~= specification or old[SPECIFIED] ~= specified)
          and redis.call('HEXISTS', root .. 'specifications', #specification .. ':' .. specification .. specified) == 0 then
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

local function many(command, key, arguments)
  for from = 1, #arguments, 2 * CHUNK do
    redis.call(command, key, unpack(arguments, from, math.min(from + 2 * CHUNK - 1, #arguments)))
  end
end

local known = {}
local function names(value)
  local packed = string.sub(value, 5, 4 + struct.unpack('>I4', value))
  local found = known[packed]
  if not found then
    found = cmsgpack.unpack(packed)
    known[packed] = found
  end
  return found
end

-- An item has changed, or with no value is gone.
local function change(member, value)
  if values[member] == nil then touched[#touched + 1] = member end
  values[member] = value
end

-- What has become of the items, in their lists: each command once for all that are alike.
local function change_lists()
  local stored, gone, came, left = {}, {}, {}, {}
  local function among(sets, value)
    local lists = names(value)
    local set = sets[lists]
    if not set then
      set = {}
      sets[lists] = set
    end
    return set
  end
  for from = 1, #touched, CHUNK do
    local to = math.min(from + CHUNK - 1, #touched)
    local before = redis.call('HMGET', root .. 'items', unpack(touched, from, to))
    for at = from, to do
      local member = touched[at]
      local old, new = before[at - from + 1], values[member]
      if new then
        stored[#stored + 1] = member
        stored[#stored + 1] = new
      elseif old then
        gone[#gone + 1] = member
      end
      if not old or not new or names(old) ~= names(new) then
        if old then
          local set = among(left, old)
          set[#set + 1] = member
        end
        if new then
          local set = among(came, new)
          set[#set + 1] = '0'
          set[#set + 1] = member
        end
      end
    end
  end
  touched, values = {}, {}
  many('HSET', root .. 'items', stored)
  many('HDEL', root .. 'items', gone)
  many('ZREM', root .. 'i', gone)
  for lists, members in pairs(left) do
    for _, list in ipairs(lists) do many('ZREM', root .. list, members) end
  end
  for lists, members in pairs(came) do
    for _, list in ipairs(lists) do many('ZADD', root .. list, members) end
    many('ZADD', root .. 'i', members)
  end
end

local function step(c, snapshot, keyed, items)
  local id, version, new, closed = ARGV[c], ARGV[c + 1], head(ARGV[c + 2]), ARGV[c + 3]
  local old, same, p = case(id), true, c + 5
  for at = QUARANTINED, WORKING do same = same and old[at] == new[at] end
  if same then
    redis.call('HSET', root .. 'c:' .. id, 'v', version)
    old[VERSION] = version
  else
    redis.call('HSET', root .. 'c:' .. id, 'v', version, 'q', new[1], 's', new[2], 'p', new[3], 'w', new[4], 'd', new[5],
               'r', new[6], 'k', new[7])
    cases[id] = {new[1], new[2], new[3], new[4], new[5], new[6], new[7], version}
    listed(id, old, cases[id])
  end
  redis.call('RPUSH', root .. 'j:' .. id, ARGV[c + 4])
  if snapshot == 1 then
    redis.call('SET', root .. 'x:' .. id, struct.pack('>I8', tonumber(version)) .. ARGV[p])
    p = p + 1
  end
  if keyed == 1 then
    redis.call('HSET', root .. 'keys', ARGV[p], ARGV[p + 1])
    redis.call('ZADD', root .. 'keyed', '0', ARGV[p])
    p = p + 2
  end
  if items > 0 or closed ~= '' or new[QUARANTINED] ~= '' then
    local prefix = text_key(id)
    for each = p, p + 2 * items - 2, 2 do change(prefix .. ARGV[each], ARGV[each + 1]) end
    for each = 1, #closed, 8 do change(prefix .. string.sub(closed, each, each + 7), false) end
    if new[QUARANTINED] ~= '' then
      change_lists()
      aside(prefix)
    end
  end
end

local function register(c)
  redis.call('HSET', root .. 'specifications', ARGV[c], ARGV[c + 2])
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

local outcomes, at = 0, 4
for caller = 1, callers do
  local from, to = at + 1, at + 1 + tonumber(ARGV[at])
  at = to
  local refused = refusal(from, to)
  if refused then
    if outcomes == 0 then
      outcomes = {}
      for each = 1, callers do outcomes[each] = 0 end
    end
    outcomes[caller] = refused
    from = to
  end
  while from < to do
    local length, kind, snapshot, keyed, count, items = struct.unpack('>I4BBBI4I4', ARGV[from])
    local c = from + 1 + 6 * count
    if kind == 1 then step(c, snapshot, keyed, items) end
    if kind == 2 then register(c) end
    for d = from + 1, c - 6, 6 do file(d) end
    from = from + length
  end
end
if #touched > 0 then change_lists() end
if not told and tonumber(redis.call('GET', root .. 'format') or 0) < FORMAT then redis.call('SET', root .. 'format', FORMAT) end
redis.call('SET', writer, outcomes == 0 and ARGV[2] or cmsgpack.pack({number, outcomes}), 'EX', KEPT)
return outcomes
