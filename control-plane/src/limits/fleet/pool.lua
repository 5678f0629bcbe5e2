-- Asks of pools, one of each: what pool.rs does, by Redis' clock.
--
-- The hash of a pool has `h`: the latest slice, whether the pool has ever been less than the whole
-- limit, and the level; `ENVOY:EPOCH`: what was granted to it in the latest slice; and of a sliding
-- window `s0`, `s1`, ...: what was granted in each slice of the run, by the slice's number modulo
-- the run.
--
-- Asks and answers are records of bytes, which record.rs writes and reads: an argument or a number
-- of its own for each of their numbers would take longer than all that is done here.
local ASK = '<BI8I8I4I4I4I8I4I4I4Bc0B'
local ANSWER = '<BI4I4I8I4I8BI8I8'
local SKEW, FIXED, SLIDING = 1000, 0, 1
local envoys, most_holders = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The ask.
local key, algorithm, ms, window, pool, whole, requests, slice, claimed, used, want, holder
-- In how many slices a grant can be spent; and the others of the terms.
local lasts, run, unit
-- The pool, what of it is written already, and what is written of the holder.
local known, latest, small, level, written_small, written_level, mine
-- What was granted in the slices of the run; read when it is needed.
local sums, renewed
-- Holders that are not written yet, and what was granted in the latest slice.
local holders, current

local function read_sums()
  if sums then return end
  sums = {}
  if not known then return end
  local fields = {}
  for place = 0, run - 1 do fields[place + 1] = 's' .. place end
  local read = redis.call('HMGET', key, unpack(fields))
  for back = 0, math.min(run - 1, latest) do
    local sum = read[(latest - back) % run + 1]
    if sum then sums[latest - back] = tonumber(sum) end
  end
end
local function held(name)
  if holders[name] then return holders[name] end
  if renewed then return nil end
  if name == holder then return mine end
  local read = redis.call('HGET', key, name)
  return read and tonumber(read) or nil
end

local function bucket(size)
  if size == 1 then return window, unit end
  return size * run, size * run * math.max(0, window - lasts)
end
local function decide()
  if whole == 0 then small = 1 end
  return small == 1 and pool or whole
end
local function advance(size, to)
  if to <= latest then return end
  if algorithm == FIXED then
    level = 0
  elseif algorithm == SLIDING then
    read_sums()
    level = 0
    for at, sum in pairs(sums) do
      if at + run > to then level = level + sum else sums[at] = nil end
    end
  else
    level = math.max(0, level - bucket(size) * (to - latest))
  end
  latest, renewed, holders = to, true, {}
end
local function at_least(at, sum)
  if sum == 0 or at > latest or at + run <= latest then return end
  read_sums()
  local before = sums[at] or 0
  if sum > before then
    sums[at], level = sum, level + sum - before
    redis.call('HSET', key, 's' .. at % run, string.format('%.0f', sum))
  end
end
local function count(more)
  if algorithm == FIXED then
    level = level + more
  elseif algorithm == SLIDING then
    if more > 0 then
      level = level + more
      if sums then sums[latest] = (sums[latest] or 0) + more end
      if not renewed then
        current = redis.call('HINCRBY', key, 's' .. latest % run, string.format('%.0f', more))
      end
    end
  else
    level = math.min(level + more * unit, requests * unit)
  end
end
local function full(name)
  return held(name) == nil and not renewed and redis.call('HLEN', key) > most_holders
end
local function write()
  if renewed then
    redis.call('DEL', key)
    local fields = {}
    for at, sum in pairs(sums or {}) do
      fields[#fields + 1] = 's' .. at % run
      fields[#fields + 1] = string.format('%.0f', sum)
    end
    if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
  end
  for name, granted in pairs(holders) do
    if name ~= holder then redis.call('HSET', key, name, string.format('%.0f', granted)) end
  end
  local text = string.format('%.0f %d %.0f', latest, small, level)
  if holders[holder] then
    redis.call('HSET', key, 'h', text, holder, string.format('%.0f', holders[holder]))
  else
    redis.call('HSET', key, 'h', text)
  end
  -- Who asked first in this slice may be ahead, and who asks last of what it counts in behind.
  if renewed or not known then redis.call('PEXPIRE', key, (run + 1) * ms + 2 * SKEW) end
  renewed, written_small, written_level = false, small, level
end

-- Takes in what the asking control plane knows of this pool, which may be more than is known here.
local function merge(record, place)
  local at, its_small, its_level, count_sums
  at, its_small, its_level, count_sums, place = struct.unpack('<I8BI8I4', record, place)
  if not known then latest = at end
  small = math.max(small, its_small)
  local size = decide()
  advance(size, at)
  if algorithm == SLIDING then read_sums() end
  local its_sums = {}
  for number = 1, count_sums do
    local slice_of, sum
    slice_of, sum, place = struct.unpack('<I8I8', record, place)
    its_sums[number] = {slice_of, sum}
  end
  if latest == at then
    local count_holders
    count_holders, place = struct.unpack('<I4', record, place)
    for _ = 1, count_holders do
      local name, granted
      name, granted, place = struct.unpack('<Bc0I4', record, place)
      local before = held(name)
      if before or not full(name) then
        holders[name] = math.max(before or 0, granted)
        count(holders[name] - (before or 0))
      end
    end
  end
  if algorithm == FIXED then
    if latest == at then level = math.max(level, its_level) end
  elseif algorithm == SLIDING then
    for _, it in ipairs(its_sums) do at_least(it[1], it[2]) end
  else
    level = math.max(level, its_level - bucket(size) * (latest - at))
  end
  write()
  known = true
  local read = redis.call('HGET', key, holder)
  mine = read and tonumber(read) or nil
  holders, current = {}, 0
end

local function answer(record)
  local told, place
  algorithm, ms, window, pool, whole, requests, slice, claimed, used, want, holder, told, place =
    struct.unpack(ASK, record)
  lasts = algorithm == FIXED and 1 or 2
  run = window + lasts
  unit = window * run
  local head = redis.call('HMGET', key, 'h', holder)
  known, mine = head[1] ~= false, head[2] and tonumber(head[2]) or nil
  latest, small, level = slice, 0, 0
  if known then
    local a, b, c = string.match(head[1], '(%d+) (%d) (%d+)')
    latest, small, level = tonumber(a), tonumber(b), tonumber(c)
  end
  written_small, written_level = small, level
  sums, renewed, holders, current = nil, false, {}, 0

  if now + SKEW < slice * ms or now > (slice + 1) * ms + SKEW then
    local granted = latest == slice and mine or 0
    local again = math.max(math.floor(now / ms), slice + 1)
    return struct.pack(ANSWER, 2, math.max(granted, claimed), 0, again, 0, latest, small, level, 0)
  end
  if told == 1 then merge(record, place) end

  if slice < latest then
    if algorithm == SLIDING then
      at_least(slice, math.min(claimed, requests))
      write()
    end
    return struct.pack(ANSWER, 1, claimed, 0, latest, 0, latest, small, level, 0)
  end

  local size = decide()
  advance(size, slice)
  if full(holder) then
    write()
    return struct.pack(ANSWER, 3, claimed, 0, slice + 1, 0, latest, small, level, 0)
  end
  local before = held(holder) or 0
  local granted = math.max(before, math.min(claimed, requests))
  count(granted - before)

  local room
  if algorithm == FIXED or algorithm == SLIDING then
    room = math.max(0, size - level)
  else
    local _, most = bucket(size)
    room = math.floor(math.max(0, most - level) / unit)
  end
  local wanted = math.min(used, granted) + want
  local fresh = 0
  if granted < wanted then
    local part = algorithm == FIXED and math.ceil(room / (2 * math.max(1, envoys))) or 0
    fresh = math.min(math.max(part, wanted - granted), room, 4294967295 - granted)
  end
  count(fresh)
  granted = granted + fresh
  -- Who only asks again, or asks of a pool without room, changes nothing.
  if granted ~= mine or renewed or small ~= written_small or level ~= written_level then
    holders[holder] = granted
    write()
  end

  local left, again = room - fresh, 0
  if left == 0 then
    again = latest + 1
    if algorithm == SLIDING then
      sums, known = nil, true
      read_sums()
      for back = math.min(run - 1, latest), 0, -1 do
        if sums[latest - back] then
          again = latest - back + run
          break
        end
      end
    elseif algorithm ~= FIXED then
      local refill, most = bucket(size)
      if refill > 0 then
        again = latest + math.max(1, math.ceil(math.max(0, level + unit - most) / refill))
      end
    end
  end
  if algorithm == SLIDING and current == 0 then
    current = tonumber(redis.call('HGET', key, 's' .. latest % run) or 0)
  end
  return struct.pack(ANSWER, 0, math.max(granted, claimed), left, again, fresh, latest, small, level, current)
end

local answers = {}
for at = 1, #KEYS do
  key = KEYS[at]
  answers[at] = answer(ARGV[at + 2])
end
return table.concat(answers)
