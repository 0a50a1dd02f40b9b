-- What wrk sends, and what it tells when it is over: one line of JSON.
-- BENCH_METHOD and BENCH_BODY say what to send; where BENCH_EXPECT is set, every answer must contain it.

local expect = os.getenv("BENCH_EXPECT")
wrk.method = os.getenv("BENCH_METHOD") or "GET"
wrk.body = os.getenv("BENCH_BODY")
if wrk.body then
  wrk.headers["Content-Type"] = "application/json"
end
if os.getenv("BENCH_AUTHORIZATION") then
  wrk.headers["Authorization"] = os.getenv("BENCH_AUTHORIZATION")
end

wrong = 0
if expect then
  function response(status, headers, body)
    if status ~= 200 or not body:find(expect, 1, true) then
      wrong = wrong + 1
    end
  end
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  bad = bad + summary.errors.timeout
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
  end
  local quantiles = { string.format("%.4f", latency.min / 1000), string.format("%.4f", latency.max / 1000) }
  for part = 0.5, 99.5, 0.5 do
    table.insert(quantiles, string.format("%.4f", latency:percentile(part) / 1000))
  end
  io.write(string.format('\n{"requests": %d, "seconds": %.6f, "bad": %d, "quantiles": [%s]}\n',
    summary.requests, summary.duration / 1e6, bad, table.concat(quantiles, ", ")))
end
