-- Traffic for wrk: paths, answers, methods and agents as varied as a small site's, from wrk's own seeded generator.
local agents = {
  "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari/604.1",
  "curl/7.88.1",
  "Googlebot/2.1 (+http://www.google.com/bot.html)",
  "Prometheus/2.53.0",
  "a \"quoted\" agent with \\ and tabs",
}
-- No HEAD: wrk would wait for the body that its answer announces.
local methods = { "GET", "GET", "GET", "GET", "GET", "POST", "PUT", "DELETE" }
local words = { "orders", "users", "static", "img", "api", "v1", "search", "cart", "caf%C3%A9", "%F0%9F%9A%80" }
local kinds = { "/ok", "/ok", "/ok", "/ok", "/ok", "/large", "/missing", "/moved", "/forbidden", "/broken" }

function init(args)
  math.randomseed(tonumber(args[1]) or 1)
end

function request()
  local path = kinds[math.random(#kinds)]
  for _ = 1, math.random(0, 3) do
    path = path .. "/" .. words[math.random(#words)]
  end
  if math.random(4) == 1 then
    path = path .. "?q=" .. string.rep("x", math.random(0, 60)) .. "&page=" .. math.random(1, 500)
  end
  local method = methods[math.random(#methods)]
  wrk.headers["User-Agent"] = agents[math.random(#agents)]
  wrk.headers["Referer"] = math.random(3) == 1 and "https://example.test/from/" .. math.random(1, 99) or nil
  return wrk.format(method, path)
end
