-- What wrk asks and how it judges answers. Arguments: a file with a path a line (empty: the one of the command line),
-- the number to begin at, what every body holds, what X-Cache says (empty: not looked at), and a body to POST (empty: GET).
-- "@N@" in a path becomes six digits that no other request of the run has.

wrong = 0
asked = 0

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   local file, number, body, cache = args[1], tonumber(args[2]), args[3], args[4]
   if body ~= "" or cache ~= "" then
      response = function(status, headers, content)
         if status >= 300 or not content:find(body, 1, true) or (cache ~= "" and headers["x-cache"] ~= cache) then
            wrong = wrong + 1
         end
      end
   end
   if args[5] ~= "" then
      wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", args[5], "application/json"
   end
   if file == "" then return end
   local paths = {}
   for line in io.lines(file) do table.insert(paths, line) end
   request = function()
      asked = asked + 1
      local path = paths[(number + asked) % #paths + 1]:gsub("@N@", string.format("%06d", number + asked))
      return wrk.format(nil, path)
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,"max":%d,"asked":%d,"wrong":%d,"refused":%d,"broken":%d}\n',
      summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
      threads[1]:get("asked"), threads[1]:get("wrong"), errors.status, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
