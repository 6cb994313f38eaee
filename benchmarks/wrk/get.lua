dofile(os.getenv("DOMICILE_BENCH_REPORT"))
