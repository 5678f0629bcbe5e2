-- A presence: what members.rs does, by Redis' clock.
--
-- The hash has `h`: when the table was done learning, whether shares of an earlier one are out, from
-- when on all are counted and parts are given away, when anybody was last heard of, when it is to be looked for members
-- that are gone, the sum of all parts that may be held, how many live, and since when each holds its
-- even part; and for each Envoy the parts that it may be holding, when it is gone, and the number of its latest call.
-- A look tells how the table is, and changes nothing.
local key = KEYS[1]
local ALL, SKEW, VALID, QUIET, LOOK = 65536, 1000, 5000, 2500, 250
local KEPT = 32 * 86400 * 1000
local envoy = ARGV[1]
local call, holds, its_now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Of shares of an earlier table: 1, it gave some away; 2, somebody holds some.
local earlier, alone, looks = tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7] == '1'
local most = tonumber(ARGV[8])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local learnt, foreign, grows, heard, look, given, live, even
local head = redis.call('HGET', key, 'h')
if head then
  local n = {}
  for part in string.gmatch(head, '%d+') do n[#n + 1] = tonumber(part) end
  learnt, foreign, grows, heard, look, given, live, even = unpack(n)
elseif looks then
  return {}
else
  learnt, foreign, grows, heard = now + VALID, math.min(earlier, 1), now + VALID, now
  look, given, live, even = now + VALID, 0, 0, now
end
local function read(text)
  local a, b, c = string.match(text, '(%d+) (%d+) (%d+)')
  return tonumber(a), tonumber(b), tonumber(c)
end
local function answer(parts, out_of_step)
  return {parts, live, now >= grows and 1 or 0, learnt, foreign, out_of_step and 1 or 0, even}
end
if looks then
  if now - heard > VALID then live = 0 end
  return answer(0, false)
end
local function write()
  redis.call('HSET', key, 'h', string.format('%.0f %d %.0f %.0f %.0f %.0f %d %.0f',
    learnt, foreign, grows, heard, look, given, live, even))
  redis.call('PEXPIRE', key, KEPT)
end

if alone then grows = math.max(grows, now + VALID) end
if earlier == 2 then foreign = 1 end
if now - heard > QUIET then grows = math.max(grows, now + VALID) end
heard = math.max(heard, now)
if now >= look then
  local all, first = redis.call('HGETALL', key), nil
  given, live = 0, 0
  for at = 1, #all, 2 do
    if all[at] ~= 'h' then
      local cap, expires = read(all[at + 1])
      if expires > now then
        given, live = given + cap, live + 1
        if not first or expires < first then first = expires end
      else
        redis.call('HDEL', key, all[at])
        even = now
      end
    end
  end
  look = math.max(first or now + VALID, now + LOOK)
end

local out_of_step = math.abs(now - its_now) > SKEW
local before, expires, number = 0, nil, 0
local known = redis.call('HGET', key, envoy)
if known then
  before, expires, number = read(known)
  if expires <= now then
    redis.call('HDEL', key, envoy)
    given, live, before, known = given - before, live - 1, 0, false
    even = now
  end
end
if not known and live >= most then
  even = now
  write()
  return answer(0, out_of_step)
end
if known and call <= number then
  write()
  return answer(out_of_step and 0 or math.min(holds, before), out_of_step)
end
if holds > before then foreign = 1 end
if not known then live = live + 1 end
local others = given - before
local target = math.floor(ALL / live)
local parts = math.min(target, math.max(0, ALL - others))
if out_of_step then
  parts = 0
elseif now < grows then
  parts = math.min(parts, holds)
end
local cap = math.max(holds, parts)
if not known or before ~= target or holds ~= target or parts ~= target then even = now end
given = others + cap
redis.call('HSET', key, envoy, string.format('%.0f %.0f %.0f', cap, now + VALID, call))
write()
return answer(parts, out_of_step)
