-- No two heads alike, and where the work has a pause, half to one and a half times that.
dofile(os.getenv("DOMICILE_BENCH_REPORT"))
local think, number = tonumber(os.getenv("DOMICILE_BENCH_THINK")), 0
function request()
   number = number + 1
   return wrk.format("GET", wrk.path .. "?" .. number)
end
if think > 0 then
   function delay()
      return math.random(think / 2, think + think / 2)
   end
end
