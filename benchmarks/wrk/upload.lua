dofile(os.getenv("DOMICILE_BENCH_REPORT"))
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
