-- Notes that a control plane lives, and gives how many do. The hash has for each when it is gone
-- unless it is heard of again.
local VALID = 10000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + VALID))
redis.call('PEXPIRE', KEYS[1], VALID)
local all, live = redis.call('HGETALL', KEYS[1]), 0
for at = 1, #all, 2 do
  if tonumber(all[at + 1]) > now then
    live = live + 1
  else
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return live
