-- Half to one and a half times the given pause, so that connections do not march in step.
dofile(os.getenv("DOMICILE_BENCH_REPORT"))
local think = tonumber(os.getenv("DOMICILE_BENCH_THINK"))
function delay()
   return math.random(think / 2, think + think / 2)
end
