"""Envoy as a reverse proxy that writes what Domicile writes: the same headers, the same log fields."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.proxies.lane import Lane
from benchmarks.work import HOST
from tests.peers.envoy import envoy
from tests.peers.process import Peer

_API = "type.googleapis.com/envoy.extensions"

_LOG = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "listener": "%DOWNSTREAM_LOCAL_PORT%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "status": "%RESPONSE_CODE%",
    "reason": "%RESPONSE_FLAGS%",
    "home": "elsewhere",
    "country": "unknown",
    "zone": "elsewhere",
    "provider": "%UPSTREAM_CLUSTER%",
    "rules": "everyone-else",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "from_client": "%BYTES_RECEIVED%",
    "to_client": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "first_byte": "%RESPONSE_DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}


@contextmanager
def envoy_proxy(lane: Lane) -> Iterator[Peer]:
    """Run it until the block is left."""
    configuration = {
        "static_resources": {
            "listeners": [_listener(lane, tls=False), _listener(lane, tls=True)],
            "clusters": [_cluster(lane, tls=False), _cluster(lane, tls=True)],
        }
    }
    with envoy(configuration, lane.listens, lane.folder, before=lane.before) as peer:
        yield peer


def _listener(lane: Lane, *, tls: bool) -> dict[str, Any]:
    name, port = ("secure", lane.listen.tls) if tls else ("plain", lane.listen.plain)
    manager = {
        "@type": f"{_API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "xff_num_trusted_hops": 1,
        "generate_request_id": True,
        "via": "1.1 envoy",
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{_API}.access_loggers.file.v3.FileAccessLog",
                    "path": str(lane.folder / "access.log"),
                    "log_format": {"json_format": _LOG},
                },
            }
        ],
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": f"{_API}.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}],
                    "request_headers_to_add": [
                        _header("X-Forwarded-Host", "%REQ(:AUTHORITY)%"),
                        _header(
                            "Forwarded",
                            "for=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;host=%REQ(:AUTHORITY)%;proto=%REQ(:SCHEME)%",
                        ),
                    ],
                }
            ]
        },
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls:
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_API}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(lane.certificates.certificate)},
                            "private_key": {"filename": str(lane.certificates.key)},
                        }
                    ],
                },
            },
        }
    return {"name": name, "address": _address(port), "tcp_backlog_size": 4096, "filter_chains": [chain]}


def _cluster(lane: Lane, *, tls: bool) -> dict[str, Any]:
    name, port = ("secure", lane.provider.tls) if tls else ("plain", lane.provider.plain)
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "3s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if tls:
        cluster["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_API}.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": HOST,
                "common_tls_context": {
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                    "validation_context": {
                        "trusted_ca": {"filename": str(lane.certificates.authority)},
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
                    },
                },
            },
        }
    return cluster


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
