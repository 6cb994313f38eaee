-- The end of every script: what was measured, as one line of JSON that load.py reads.
function done(summary, latency, requests)
   io.write(string.format(
      '\n{"requests": %d, "microseconds": %d, "bytes": %d, "failed": %d, "p50": %d, "p99": %d}\n',
      summary.requests, summary.duration, summary.bytes,
      summary.errors.connect + summary.errors.read + summary.errors.write
         + summary.errors.status + summary.errors.timeout,
      latency:percentile(50.0), latency:percentile(99.0)))
end
