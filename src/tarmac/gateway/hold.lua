-- Holds requests until their app, or the control plane, can answer. HAProxy runs this as coroutines: other requests go on.
--
-- `hold`: the app has no replica. It asks the gateway controller over a unix socket, which has the app woken. The
-- question is the app's id and a newline. The answer is `ok`, or `STATUS RETRY-AFTER JSON-BODY`, and a newline. A
-- controller that is being restarted is waited for.
-- `await_control`: the control plane's socket does not exist, because the control plane is being restarted.
--
-- A client that disconnects while `hold` waits for its app ends that action at once, by `option abortonclose`. HAProxy
-- 2.8 then resumes the coroutine without the right to yield, and logs "Lua function 'hold': yield not allowed" as an
-- alert (haproxy/haproxy#3002). The alert is harmless, and this code cannot prevent it, since none of its lines runs in
-- between. For `await_control` the option is off, so it waits to its end.
--
-- Loaded as `hold.lua WAKE-SOCKET API-SOCKET SECONDS`: sockets as `unix@path`, and how long the controller itself may take.

local wake_socket, api_socket, patience = ...
patience = tonumber(patience)

local ABSENT = 5 -- seconds to wait for a part of the platform that is being restarted
local PAUSE = 50 -- milliseconds between two tries
local SLACK = 5 -- seconds beyond the controller's own limit, so that the controller can answer with the reason

local function clock()
  local now = core.now()
  return now.sec + now.usec / 1e6
end

local function refuse(txn, status, retry_after, body)
  local headers = { ["content-type"] = { "application/json" }, ["retry-after"] = { tostring(retry_after) } }
  txn:done(txn:reply({ status = status, headers = headers, body = body }))
end

local function refuse_for_now(txn, message)
  local error = '{"error":{"code":"SystemUnavailableError","message":"%s; try again","kind":"system"}}'
  refuse(txn, 503, 1, error:format(message))
end

-- The controller's answer; nil when it does not run, or ended before it answered.
local function ask(app, seconds)
  local socket = core.tcp()
  socket:settimeout(math.max(1, math.ceil(seconds)))
  local answer
  if socket:connect(wake_socket) and socket:send(app .. "\n") then
    answer = socket:receive("*l")
  end
  socket:close()
  if answer == "" then
    return nil
  end
  return answer
end

local function hold(txn)
  local app = txn:get_var("txn.app")
  local began = clock()
  local last_seen = began
  local answer
  repeat
    local asked = clock()
    answer = ask(app, began + patience + SLACK - asked)
    local now = clock()
    if not answer then
      if now - asked > PAUSE / 1000 then -- it accepted the question and ended later, so it was running until now
        last_seen = now
      end
      if now - last_seen > ABSENT or now - began > patience then
        break
      end
      core.msleep(PAUSE)
    end
  until answer
  txn:set_var("txn.held", math.floor((clock() - began) * 1000))
  if answer == "ok" then
    return
  end
  local status, retry_after, body = (answer or ""):match("^(%d+) (%d+) (.*)$")
  if status then
    refuse(txn, tonumber(status), retry_after, body)
  else
    refuse_for_now(txn, "the gateway cannot wake the app now, because a part of the platform is being restarted")
  end
end

local function await_control(txn)
  local deadline = clock() + ABSENT
  repeat
    local socket = core.tcp()
    socket:settimeout(1)
    local there = socket:connect(api_socket)
    socket:close()
    if there then
      return
    end
    core.msleep(PAUSE)
  until clock() > deadline
  refuse_for_now(txn, "the control plane is restarting")
end

core.register_action("hold", { "http-req" }, hold, 0)
core.register_action("await_control", { "http-req" }, await_control, 0)
