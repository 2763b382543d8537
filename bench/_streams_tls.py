"""The end of TLS: handshakes, and HTTP/1.1 over it before a plain origin. Every server has the same certificates, and
the driver offers one version and one cipher suite, so all of them do the same arithmetic."""

from _load import case
from _servers import CONNECTIONS, LARGE_BYTES, SMALL_BYTES, compiled
from _streams_load import busy, cpu_ms_per_gb, cpu_us, gb_per_second, interleave, per_second
from _streams_servers import StreamFarm

OPENSSL = ("tls_client.c", "-lssl", "-lcrypto")
LARGE_CONNECTIONS, LARGE_QUICK = 16, 2
# What a handshake is called, the key of the server, and what the driver wants of it. Both kinds of key cost
# the same where a session is resumed.
HANDSHAKES = (
    ("tls13_ecdsa", "ecdsa", {"tls": "1.3"}),
    ("tls13_rsa", "rsa", {"tls": "1.3"}),
    ("tls13_resumed", "ecdsa", {"tls": "1.3", "resume": 1}),
    ("tls12_ecdsa", "ecdsa", {"tls": "1.2"}),
    ("tls12_rsa", "rsa", {"tls": "1.2"}),
    ("tls12_resumed", "ecdsa", {"tls": "1.2", "resume": 1}),
)
CIPHERS = (
    ("aes128", "TLS_AES_128_GCM_SHA256"),
    ("aes256", "TLS_AES_256_GCM_SHA384"),
    ("chacha", "TLS_CHACHA20_POLY1305_SHA256"),
)


def load_program():
    """load.c, speaking TLS."""
    return compiled("load.c", "-DLOAD_TLS", *OPENSSL)


def handshakes(lineup, options):
    lines = []
    with StreamFarm() as farm:
        origin = farm.origin()
        servers = {kind: lineup.all(farm, "tls", origin, kind) for kind in ("ecdsa", "rsa")}
        for name, kind, wish in HANDSHAKES:
            program = compiled("handshakes.c", *OPENSSL)
            samples = interleave(farm, servers[kind], options.rounds, name, program, options.seconds, **wish)
            lines += [
                case(f"{name}_cpu_us", "us/handshake", True, samples, cpu_us),
                case(f"{name}_per_s", "handshakes/s", False, samples, per_second, 0),
            ]
    return lines


def in_bytes(samples):
    for taken in samples.values():
        for sample in taken:
            sample["bytes"] = sample["requests"] * LARGE_BYTES
    return samples


def bulk(lineup, options):
    lines = []
    with StreamFarm() as farm:
        servers = lineup.all(farm, "tls", farm.origin(), "ecdsa")
        for name, cipher in CIPHERS:
            samples = interleave(
                farm,
                servers,
                options.rounds,
                f"tls_{name}",
                load_program(),
                options.seconds,
                path="/large",
                body=LARGE_BYTES,
                connections=LARGE_QUICK if options.quick else LARGE_CONNECTIONS,
                tls="1.3",
                cipher=cipher,
            )
            lines += [
                case(f"tls_{name}_cpu_ms_per_gb", "ms/GB", True, in_bytes(samples), cpu_ms_per_gb, 1),
                case(f"tls_{name}_gb_per_s", "GB/s", False, samples, gb_per_second),
                case(f"tls_{name}_proxy_busy", "cores", False, samples, busy, 2),
            ]
    return lines


def small(lineup, options):
    with StreamFarm() as farm:
        servers = lineup.all(farm, "tls", farm.origin(), "ecdsa")
        samples = interleave(
            farm,
            servers,
            options.rounds,
            "https_small",
            load_program(),
            options.seconds,
            body=SMALL_BYTES,
            connections=CONNECTIONS,
            tls="1.3",
        )
    return [
        case("https_small_cpu_us", "us/request", True, samples, cpu_us),
        case("https_small_rps", "requests/s", False, samples, per_second, 0),
    ]
