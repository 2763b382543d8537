"""What bench/http1.py is to come to, and what of it is drawn."""

from _report import BEST, Aim

AIMS = (
    Aim("h1_small_cpu_us", "bare", 1.15),
    Aim("h1_small_cpu_us", BEST, 0.85),
    Aim("h1_small_rps", BEST, 1.0),
    Aim("h1_small512_cpu_us", "bare", 1.15),
    Aim("h1_small512_cpu_us", BEST, 0.85),
    Aim("h1_small512_rps", BEST, 1.0),
    Aim("h1_1mb_cpu_ms_per_gb", BEST, 0.9),
    Aim("h1_idle_conn_bytes", BEST, 0.5),
)
# Also told: the same of the others, without an aim.
COMPARED = ("two_cpu_us", "two_rps", "two512_cpu_us", "two512_rps", "p50_us", "p99_us", "p999_us", "70_cpu_us")
AIMS += tuple(Aim(f"h1_{name}", to, None) for name in COMPARED for to in ("bare", BEST))

DRAWN = {
    "h1_small_cpu_us": "CPU of the proxy per request, 64 connections",
    "h1_small512_cpu_us": "CPU of the proxy per request, 512 connections",
    "h1_two_cpu_us": "CPU of the proxy per request, two workers, 64 connections",
    "h1_two512_cpu_us": "CPU of the proxy per request, two workers, 512 connections",
    "h1_p50_us": "latency, p50, at 70 % of what nginx can do",
    "h1_p99_us": "latency, p99",
    "h1_p999_us": "latency, p99.9",
    "h1_1mb_cpu_ms_per_gb": "CPU of the proxy per GB of 1 MiB bodies",
    "h1_idle_conn_bytes": "memory of an idle keep-alive connection",
}
